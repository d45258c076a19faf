// SPDX-License-Identifier: Apache-2.0
//! Roundhouse's C ABI for data types, 1.0, as Rust sees it: what `abi.h`, `tensor.h`, `scheme.h`, `encoding.h`, `layer.h`,
//! `host.h`, `dtype.h` and `entry.h` declare, with their members' names. The headers say what each member means, who owns
//! it, and which thread may call.
#![allow(dead_code)]

use std::os::raw::{c_char, c_void};

pub type Code = i32;
pub const OK: Code = 0;
pub const INVALID_ARGUMENT: Code = 3;
pub const INTERNAL: Code = 13;

pub const ABI_MAJOR: u16 = 1;
pub const ABI_MINOR: u16 = 0;
pub const DTYPE_FACTORY: &str = "roundhouse.dtype-factory/1";
pub const AFFINE_INT: *const c_char = b"affine-int/1\0".as_ptr() as _;

pub const KIND_UINT: u8 = 1;
pub const KIND_FLOAT: u8 = 2;
pub const KIND_BFLOAT: u8 = 4;

pub const TARGET_WEIGHT: i32 = 0;
pub const ROUNDING_PLAIN: i32 = 0;
pub const ROUNDING_TUNED: i32 = 2;
pub const GROUP_ROW: i64 = -1;
pub const GROUP_TENSOR: i64 = 0;
pub const LR_ROUNDING: i32 = 0;

pub const SUPPORTS_CPU: u32 = 1;
pub const SUPPORTS_WEIGHTS: u32 = 4;
pub const SUPPORTS_TUNING: u32 = 32;
pub const QUANTIZER_ROWS_INDEPENDENT: u32 = 4;

/// Structs as C lays them out, each with its size in `layout.txt` of the ABI. What the host and plugins share is made once
/// and never changes, or is used by one thread at a time.
macro_rules! structs {
    ($($name:ident = $size:literal { $($field:ident: $type:ty,)* })*) => { $(
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $field: $type,)* }
        const _: () = assert!(std::mem::size_of::<$name>() == $size);
        unsafe impl Sync for $name {}
    )* };
}

structs! {
    Error = 512 { code: Code, message: [u8; 508], }
    DataType = 4 { kind: u8, bits: u8, lanes: u16, }
    Device = 8 { r#type: i32, id: i32, }
    Tensor = 48 {
        data: *mut c_void, device: Device, ndim: i32, dtype: DataType, shape: *mut i64, strides: *mut i64, byte_offset: u64,
    }
    Scheme = 64 {
        struct_size: u32, bits: i32, dtype: *const c_char, symmetric: i32, rounding: i32, group_rows: i64, group_cols: i64,
        dynamic: i32, scale_dtype: DataType, scale_threshold: f32, reserved: u32, options_json: *const c_char,
    }
    TensorSpec = 112 {
        struct_size: u32, ndim: i32, name: *const c_char, dtype: DataType, lr_group: i32, shape: [i64; 8], initial: f64,
        clamp_min: f64, clamp_max: f64,
    }
    Encoding = 32 {
        struct_size: u32, tensor_count: u32, id: *const c_char, parameters_json: *const c_char,
        tensors: *const *const TensorSpec,
    }
    Layer = 72 {
        struct_size: u32, target: i32, name: *const c_char, role: *const c_char, scheme: *const Scheme,
        encoding: *const Encoding, rows: i64, cols: i64, dtype: DataType, matrices: u32, stack: *const c_void,
    }
    Host = 40 {
        struct_size: u32, abi_major: u16, abi_minor: u16, name: *const c_char, version: *const c_char, data: *mut c_void,
        get_extension: unsafe extern "C" fn(*const Host, *const c_char) -> *const c_void,
    }
    Exec = 56 {
        struct_size: u32, reserved: u32, device: Device, stream: *mut c_void, workspace: *mut c_void, workspace_size: u64,
        cancelled: *const i32, status: *mut u32,
    }
    QuantizerInfo = 72 {
        struct_size: u32, flags: u32, tunable_count: u32, state_count: u32, result_count: u32, reduce: i32,
        tunables: *const *const TensorSpec, states: *const *const TensorSpec, results: *const *const TensorSpec,
        statistic: *const TensorSpec, encoding: *const Encoding, row_multiple: i64,
    }
    PrepareArgs = 48 {
        struct_size: u32, reserved: u32, input: *const Tensor, importance: *const Tensor, statistic: *const Tensor,
        states: *const *mut Tensor, encoded: *const *const Tensor,
    }
    ForwardArgs = 48 {
        struct_size: u32, reserved: u32, input: *const Tensor, tunables: *const *const Tensor, states: *const *const Tensor,
        output: *mut Tensor, results: *const *mut Tensor,
    }
    BackwardArgs = 56 {
        struct_size: u32, reserved: u32, input: *const Tensor, tunables: *const *const Tensor, states: *const *const Tensor,
        grad_output: *const Tensor, grad_tunables: *const *mut Tensor, grad_input: *mut Tensor,
    }
    EncodeArgs = 40 {
        struct_size: u32, reserved: u32, input: *const Tensor, tunables: *const *const Tensor, states: *const *const Tensor,
        tensors: *const *mut Tensor,
    }
    DecodeArgs = 24 { struct_size: u32, reserved: u32, tensors: *const *const Tensor, output: *mut Tensor, }
    Quantizer = 104 {
        struct_size: u32, reserved: u32, data: *mut c_void,
        destroy: unsafe extern "C" fn(*mut Quantizer),
        info: unsafe extern "C" fn(*const Quantizer) -> *const QuantizerInfo,
        workspace_size: Option<unsafe extern "C" fn(*const Quantizer, i32, i32, i64) -> u64>,
        measure: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const c_void, *mut Error) -> Code>,
        prepare: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const PrepareArgs, *mut Error) -> Code>,
        forward: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const ForwardArgs, *mut Error) -> Code>,
        backward: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const BackwardArgs, *mut Error) -> Code>,
        sign_step: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const c_void, *mut Error) -> Code>,
        encode: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const EncodeArgs, *mut Error) -> Code>,
        decode: Option<unsafe extern "C" fn(*mut Quantizer, *const Exec, *const DecodeArgs, *mut Error) -> Code>,
        get_extension: Option<unsafe extern "C" fn(*const Quantizer, *const c_char) -> *const c_void>,
    }
    Alias = 24 { struct_size: u32, reserved: u32, name: *const c_char, scheme_json: *const c_char, }
    DtypeDescriptor = 56 {
        struct_size: u32, supports: u32, id: *const c_char, summary: *const c_char, encoding: *const c_char,
        options_schema_json: *const c_char, alias_count: u32, reserved: u32, aliases: *const *const Alias,
    }
    Dtype = 48 {
        struct_size: u32, reserved: u32, data: *mut c_void, descriptor: *const DtypeDescriptor,
        check: unsafe extern "C" fn(*const Dtype, *const Layer, *mut Error) -> Code,
        create: unsafe extern "C" fn(*const Dtype, *const Layer, *mut *mut Quantizer, *mut Error) -> Code,
        get_extension: Option<unsafe extern "C" fn(*const Dtype, *const c_char) -> *const c_void>,
    }
    DtypeFactory = 24 {
        struct_size: u32, reserved: u32, count: unsafe extern "C" fn() -> u32,
        get: unsafe extern "C" fn(u32) -> *const Dtype,
    }
    Entry = 64 {
        struct_size: u32, abi_major: u16, abi_minor: u16, name: *const c_char, vendor: *const c_char,
        version: *const c_char, summary: *const c_char,
        init: unsafe extern "C" fn(*const Host, *mut Error) -> Code,
        deinit: unsafe extern "C" fn(),
        get_factory: unsafe extern "C" fn(*const c_char) -> *const c_void,
    }
}

pub const fn size_of<T>() -> u32 {
    std::mem::size_of::<T>() as u32
}
