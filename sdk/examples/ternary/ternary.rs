// SPDX-License-Identifier: Apache-2.0
//! ternary: a data type in Rust, without crates and without a line of C. Weights are -s, 0 or s:
//!
//!   s = mean |w| of a group of columns, as float16    q = -1, 0 or 1, whichever w / s + v is nearest to    output = q * s
//!
//! (Ma et al., The Era of 1-bit LLMs, arXiv 2402.17764, with a scale for each group and tuned rounding.) It emits
//! affine-int/1 of 2 bits with the codes 1, 2 and 3, so every format of that encoding holds it.
mod abi;

use abi::*;
use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::{null, null_mut};

// ---- elements of float32, float16 and bfloat16; rounding is to nearest, ties to even ----

const F16: DataType = DataType { kind: KIND_FLOAT, bits: 16, lanes: 1 };
const F32: DataType = DataType { kind: KIND_FLOAT, bits: 32, lanes: 1 };
const U8: DataType = DataType { kind: KIND_UINT, bits: 8, lanes: 1 };

fn is_float(t: DataType) -> bool {
    t.lanes == 1 && (t.kind == KIND_FLOAT && (t.bits == 32 || t.bits == 16) || t.kind == KIND_BFLOAT && t.bits == 16)
}

fn from_half(x: u16) -> f32 {
    let (sign, exponent, mantissa) = ((x as u32 & 0x8000) << 16, x as u32 >> 10 & 31, x as u32 & 0x3ff);
    let size = match exponent {
        31 => 0x7f80_0000 | mantissa << 13,
        0 => (mantissa as f32 * (0.5f32).powi(24)).to_bits(),
        _ => (exponent + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | size)
}

fn to_half(x: f32) -> u16 {
    let (sign, size) = ((x.to_bits() >> 16 & 0x8000) as u16, x.to_bits() & 0x7fff_ffff);
    sign | match size {
        s if s > 0x7f80_0000 => 0x7e00,
        s if s >= 0x477f_f000 => 0x7c00, // rounds to infinity
        // Subnormal: adding 0.5 leaves units of 2^-24 in the low bits.
        s if s < 0x3880_0000 => ((f32::from_bits(s) + 0.5).to_bits() - 0x3f00_0000) as u16,
        s => ((s + 0xfff + (s >> 13 & 1) - 0x3800_0000) >> 13) as u16,
    }
}

fn to_bfloat(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16 }
}

fn rounded(t: DataType, x: f32) -> f32 {
    match (t.bits, t.kind) {
        (32, _) => x,
        (_, KIND_BFLOAT) => f32::from_bits((to_bfloat(x) as u32) << 16),
        _ => from_half(to_half(x)),
    }
}

impl Tensor {
    unsafe fn load(&self, i: usize) -> f32 {
        match (self.dtype.bits, self.dtype.kind) {
            (32, _) => *(self.data as *const f32).add(i),
            (_, KIND_BFLOAT) => f32::from_bits((*(self.data as *const u16).add(i) as u32) << 16),
            _ => from_half(*(self.data as *const u16).add(i)),
        }
    }
    unsafe fn store(&self, i: usize, x: f32) {
        match (self.dtype.bits, self.dtype.kind) {
            (32, _) => *(self.data as *mut f32).add(i) = x,
            (_, KIND_BFLOAT) => *(self.data as *mut u16).add(i) = to_bfloat(x),
            _ => *(self.data as *mut u16).add(i) = to_half(x),
        }
    }
}

// ---- errors: a code and words; nothing unwinds into the host ----

type Result<T> = std::result::Result<T, String>;

fn answer(error: *mut Error, work: impl FnOnce() -> Result<()>) -> Code {
    let (code, words) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return OK,
        Ok(Err(words)) => (INVALID_ARGUMENT, words),
        Err(_) => (INTERNAL, "ternary: a bug; standard error says where".to_string()),
    };
    let error = unsafe { &mut *error };
    let mut end = words.len().min(error.message.len() - 1);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    error.code = code;
    error.message[..end].copy_from_slice(&words.as_bytes()[..end]);
    error.message[end] = 0;
    code
}

// ---- one layer, [rows, cols] ----

/// `table` is what the host sees; the pointers of the ABI's structs lead to other members.
struct Ternary {
    table: Quantizer,
    info: QuantizerInfo,
    encoding: Encoding,
    v: TensorSpec,
    scale: TensorSpec,
    codes: TensorSpec,
    encoded_scale: TensorSpec,
    tunables: [*const TensorSpec; 1],
    states: [*const TensorSpec; 1],
    tensors: [*const TensorSpec; 2],
    parameters: CString,
    name: String,
    rows: usize,
    cols: usize,
    group: usize,
}

const ZERO: u8 = 2; // affine-int/1: 2^(bits - 1)

fn spec(name: &'static [u8], dtype: DataType, rows: usize, cols: usize) -> TensorSpec {
    let mut shape = [0; 8];
    shape[..2].copy_from_slice(&[rows as i64, cols as i64]);
    TensorSpec {
        struct_size: size_of::<TensorSpec>(), ndim: 2, name: name.as_ptr() as _, dtype, lr_group: LR_ROUNDING, shape,
        initial: 0.0, clamp_min: f64::NEG_INFINITY, clamp_max: f64::INFINITY,
    }
}

impl Ternary {
    fn new(layer: &Layer, scheme: &Scheme, name: String) -> *mut Quantizer {
        let (rows, cols) = (layer.rows as usize, layer.cols as usize);
        let group = if scheme.group_cols == GROUP_ROW { cols } else { cols.min(scheme.group_cols as usize) };
        let groups = (cols + group - 1) / group;
        let parameters = format!(r#"{{"bits": 2, "group_cols": {}, "group_rows": 1, "symmetric": true}}"#, group);
        let mut made = Box::new(Ternary {
            table: Quantizer {
                struct_size: size_of::<Quantizer>(), reserved: 0, data: null_mut(), destroy, info, workspace_size: None,
                measure: None, prepare: Some(prepare), forward: Some(forward), backward: Some(backward), sign_step: None,
                encode: Some(encode), decode: Some(decode), get_extension: None,
            },
            info: QuantizerInfo {
                struct_size: size_of::<QuantizerInfo>(), flags: QUANTIZER_ROWS_INDEPENDENT, tunable_count: 1,
                state_count: 1, result_count: 0, reduce: 0, tunables: null(), states: null(), results: null(),
                statistic: null(), encoding: null(), row_multiple: 1,
            },
            encoding: Encoding {
                struct_size: size_of::<Encoding>(), tensor_count: 2, id: AFFINE_INT, parameters_json: null(), tensors: null(),
            },
            v: TensorSpec { clamp_min: -0.5, clamp_max: 0.5, ..spec(b"v\0", F32, rows, cols) },
            scale: spec(b"scale\0", F32, rows, groups),
            codes: spec(b"codes\0", U8, rows, cols),
            encoded_scale: spec(b"scale\0", F16, rows, groups),
            tunables: [null()],
            states: [null()],
            tensors: [null(); 2],
            parameters: CString::new(parameters).unwrap(),
            name, rows, cols, group,
        });
        // Its place on the heap is final.
        made.tunables = [&made.v];
        made.states = [&made.scale];
        made.tensors = [&made.codes, &made.encoded_scale];
        made.encoding.parameters_json = made.parameters.as_ptr();
        made.encoding.tensors = made.tensors.as_ptr();
        made.info.tunables = made.tunables.as_ptr();
        made.info.states = made.states.as_ptr();
        made.info.encoding = &made.encoding;
        let made = Box::into_raw(made);
        unsafe {
            (*made).table.data = made as *mut c_void;
            &mut (*made).table
        }
    }

    fn group_of(&self, i: usize) -> usize {
        i / self.cols * ((self.cols + self.group - 1) / self.group) + i % self.cols / self.group
    }

    unsafe fn prepare(&self, args: &PrepareArgs) -> Result<()> {
        let (input, scale) = (&*args.input, &**args.states);
        let mut g = 0;
        for r in 0..self.rows {
            for begin in (0..self.cols).step_by(self.group) {
                let end = self.cols.min(begin + self.group);
                let sum: f32 = (begin..end).map(|c| input.load(r * self.cols + c).abs() / (end - begin) as f32).sum();
                let s = rounded(F16, sum);
                if !s.is_finite() {
                    return Err(format!("{}: a weight is NaN or infinite, or a scale too large for float16", self.name));
                }
                scale.store(g, if s == 0.0 { 1.0 } else { s }); // 0: only zeros
                g += 1;
            }
        }
        Ok(())
    }

    /// What is rounded, and the scale.
    unsafe fn before(&self, input: &Tensor, tunables: *const *const Tensor, states: *const *const Tensor, i: usize) -> (f32, f32) {
        let s = (**states).load(self.group_of(i));
        let v = if tunables.is_null() { None } else { (*tunables).as_ref() };
        // Within what v declares, whatever the host hands in.
        (input.load(i) / s + v.map_or(0.0, |v| v.load(i).max(-0.5).min(0.5)), s)
    }
}

fn nearest(x: f32) -> f32 {
    if x > 0.5 { 1.0 } else if x < -0.5 { -1.0 } else { 0.0 }
}

unsafe fn of<'a>(quantizer: *const Quantizer) -> &'a Ternary {
    &*((*quantizer).data as *const Ternary)
}

unsafe extern "C" fn destroy(quantizer: *mut Quantizer) {
    drop(Box::from_raw((*quantizer).data as *mut Ternary));
}

unsafe extern "C" fn info(quantizer: *const Quantizer) -> *const QuantizerInfo {
    &of(quantizer).info
}

unsafe extern "C" fn prepare(q: *mut Quantizer, _: *const Exec, args: *const PrepareArgs, error: *mut Error) -> Code {
    answer(error, || of(q).prepare(&*args))
}

unsafe extern "C" fn forward(q: *mut Quantizer, _: *const Exec, args: *const ForwardArgs, error: *mut Error) -> Code {
    answer(error, || {
        let (q, args) = (of(q), &*args);
        for i in 0..q.rows * q.cols {
            let (x, s) = q.before(&*args.input, args.tunables, args.states, i);
            (*args.output).store(i, rounded((*args.input).dtype, nearest(x) * s));
        }
        Ok(())
    })
}

/// Rounding passes the gradient on, clamping does not.
unsafe extern "C" fn backward(q: *mut Quantizer, _: *const Exec, args: *const BackwardArgs, error: *mut Error) -> Code {
    answer(error, || {
        let (q, args) = (of(q), &*args);
        if !args.grad_input.is_null() {
            return Err(format!("{}: there is no gradient of the weight itself", q.name));
        }
        let grad_v = if args.grad_tunables.is_null() { None } else { (*args.grad_tunables).as_ref() };
        for i in 0..grad_v.map_or(0, |_| q.rows * q.cols) {
            let (x, s) = q.before(&*args.input, args.tunables, args.states, i);
            grad_v.unwrap().store(i, if x.abs() <= 1.0 { (*args.grad_output).load(i) * s } else { 0.0 });
        }
        Ok(())
    })
}

unsafe extern "C" fn encode(q: *mut Quantizer, _: *const Exec, args: *const EncodeArgs, error: *mut Error) -> Code {
    answer(error, || {
        let (q, args) = (of(q), &*args);
        let (codes, scale) = ((**args.tensors).data as *mut u8, &**args.tensors.add(1));
        for i in 0..q.rows * q.cols {
            let (x, s) = q.before(&*args.input, args.tunables, args.states, i);
            *codes.add(i) = (nearest(x) as i8 + ZERO as i8) as u8;
            scale.store(q.group_of(i), s);
        }
        Ok(())
    })
}

unsafe extern "C" fn decode(q: *mut Quantizer, _: *const Exec, args: *const DecodeArgs, error: *mut Error) -> Code {
    answer(error, || {
        let (q, args) = (of(q), &*args);
        let (codes, scale) = ((**args.tensors).data as *const u8, &**args.tensors.add(1));
        for i in 0..q.rows * q.cols {
            (*args.output).store(i, (*codes.add(i) as f32 - ZERO as f32) * scale.load(q.group_of(i)));
        }
        Ok(())
    })
}

// ---- the data type ----

/// The scheme, where it is one that this data type can do.
unsafe fn checked(layer: &Layer) -> Result<&Scheme> {
    let refused = |what: &str| Err(format!("ternary: {}", what));
    let scheme = match layer.scheme.as_ref() {
        Some(scheme) => scheme,
        None => return refused("makes no quantizers from encodings (RH_SUPPORTS_ENCODED)"),
    };
    match () {
        _ if layer.matrices > 1 => refused("takes one matrix a call (RH_SUPPORTS_BATCHES)"),
        _ if layer.target != TARGET_WEIGHT => refused("quantizes weights, not activations"),
        _ if !is_float(layer.dtype) => refused("takes weights of float32, float16 or bfloat16"),
        _ if scheme.bits != 2 => refused("has three values: set bits: 2"),
        _ if scheme.symmetric == 0 => refused("is symmetric: set sym: true"),
        _ if scheme.rounding != ROUNDING_PLAIN && scheme.rounding != ROUNDING_TUNED => refused("has no searched rounding"),
        _ if scheme.group_rows != 1 || scheme.group_cols == GROUP_TENSOR => {
            refused("groups columns of a row: set group_size to a number of columns, or -1 for a row")
        }
        _ => Ok(scheme),
    }
}

unsafe extern "C" fn check(_: *const Dtype, layer: *const Layer, error: *mut Error) -> Code {
    answer(error, || checked(&*layer).map(|_| ()))
}

unsafe extern "C" fn create(_: *const Dtype, layer: *const Layer, out: *mut *mut Quantizer, error: *mut Error) -> Code {
    answer(error, || {
        let name = CStr::from_ptr((*layer).name).to_string_lossy().into_owned();
        *out = Ternary::new(&*layer, checked(&*layer)?, name);
        Ok(())
    })
}

static ALIAS: Alias = Alias {
    struct_size: size_of::<Alias>(), reserved: 0, name: b"ternary\0".as_ptr() as _,
    scheme_json: b"{\"bits\": 2, \"sym\": true}\0".as_ptr() as _,
};
struct Aliases([*const Alias; 1]);
unsafe impl Sync for Aliases {}
static ALIASES: Aliases = Aliases([&ALIAS]);
const SUMMARY: *const c_char = b"Weights of -1, 0 and 1 times a scale, in Rust.\0".as_ptr() as _;
static DESCRIPTOR: DtypeDescriptor = DtypeDescriptor {
    struct_size: size_of::<DtypeDescriptor>(), supports: SUPPORTS_CPU | SUPPORTS_WEIGHTS | SUPPORTS_TUNING,
    id: b"ternary\0".as_ptr() as _, summary: SUMMARY, encoding: AFFINE_INT, options_schema_json: b"{}\0".as_ptr() as _,
    alias_count: 1, reserved: 0, aliases: ALIASES.0.as_ptr(),
};
static DTYPE: Dtype = Dtype {
    struct_size: size_of::<Dtype>(), reserved: 0, data: null_mut(), descriptor: &DESCRIPTOR, check, create, get_extension: None,
};
static FACTORY: DtypeFactory = DtypeFactory { struct_size: size_of::<DtypeFactory>(), reserved: 0, count, get };
static ENTRY: Entry = Entry {
    struct_size: size_of::<Entry>(), abi_major: ABI_MAJOR, abi_minor: ABI_MINOR, name: b"ternary\0".as_ptr() as _,
    vendor: b"Roundhouse examples\0".as_ptr() as _, version: b"1.0.0\0".as_ptr() as _, summary: SUMMARY, init, deinit,
    get_factory,
};

unsafe extern "C" fn count() -> u32 {
    1
}
unsafe extern "C" fn get(index: u32) -> *const Dtype {
    if index == 0 { &DTYPE } else { null() }
}
unsafe extern "C" fn init(_: *const Host, _: *mut Error) -> Code {
    OK
}
unsafe extern "C" fn deinit() {}
unsafe extern "C" fn get_factory(id: *const c_char) -> *const c_void {
    if CStr::from_ptr(id).to_bytes() == DTYPE_FACTORY.as_bytes() { &FACTORY as *const _ as _ } else { null() }
}

#[no_mangle]
pub extern "C" fn rh_get_entry() -> *const Entry {
    &ENTRY
}
