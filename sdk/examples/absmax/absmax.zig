// SPDX-License-Identifier: Apache-2.0
//! absmax: a data type in Zig, without a line of C. 8-bit integers, a float16 scale for each row, plain rounding:
//!
//!   s = max |w| of a row / 127, as float16    q = w / s, rounded    output = q * s
//!
//! It emits affine-int/1, so every format of that encoding holds it. The least that a data type can be: nothing is tuned.
const std = @import("std");
const abi = @import("abi.zig");

// ---- elements of float32, float16 and bfloat16; casts round to nearest, ties to even ----

fn fromBfloat(x: u16) f32 {
    return @bitCast(@as(u32, x) << 16);
}
fn toBfloat(x: f32) u16 {
    const bits: u32 = @bitCast(x);
    if (std.math.isNan(x)) return @truncate(bits >> 16 | 0x40);
    return @truncate((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
fn elements(comptime T: type, t: *const abi.Tensor) [*]T {
    return @ptrCast(@alignCast(t.data));
}
fn load(t: *const abi.Tensor, i: usize) f32 {
    if (t.dtype.bits == 32) return elements(f32, t)[i];
    return if (t.dtype.kind == abi.kind_bfloat) fromBfloat(elements(u16, t)[i]) else elements(f16, t)[i];
}
fn store(t: *const abi.Tensor, i: usize, x: f32) void {
    if (t.dtype.bits == 32) {
        elements(f32, t)[i] = x;
    } else if (t.dtype.kind == abi.kind_bfloat) {
        elements(u16, t)[i] = toBfloat(x);
    } else {
        elements(f16, t)[i] = @floatCast(x);
    }
}
fn rounded(t: abi.DataType, x: f32) f32 {
    if (t.bits == 32) return x;
    if (t.kind == abi.kind_bfloat) return fromBfloat(toBfloat(x));
    return @as(f16, @floatCast(x));
}

fn fail(e: *abi.Error, reason: abi.Code, words: []const u8) abi.Code {
    e.code = reason;
    @memcpy(e.message[0..words.len], words);
    e.message[words.len] = 0;
    return reason;
}

// ---- one layer, [rows, cols] ----

const Absmax = struct {
    table: abi.Quantizer,
    info: abi.QuantizerInfo,
    encoding: abi.Encoding,
    scale: abi.TensorSpec,
    codes: abi.TensorSpec,
    encoded_scale: abi.TensorSpec,
    states: [1]*const abi.TensorSpec,
    tensors: [2]*const abi.TensorSpec,
    parameters: [96]u8,
    rows: usize,
    cols: usize,
};

fn of(q: *const abi.Quantizer) *const Absmax {
    return @ptrCast(@alignCast(q.data));
}
fn destroy(q: *abi.Quantizer) callconv(.c) void {
    std.heap.c_allocator.destroy(@as(*Absmax, @ptrCast(@alignCast(q.data))));
}
fn info(q: *const abi.Quantizer) callconv(.c) *const abi.QuantizerInfo {
    return &of(q).info;
}

fn prepare(table: *abi.Quantizer, _: ?*const anyopaque, args: *const abi.PrepareArgs, e: *abi.Error) callconv(.c) abi.Code {
    const q = of(table);
    for (0..q.rows) |r| {
        var largest: f32 = 0;
        for (0..q.cols) |c| {
            const size = @abs(load(args.input, r * q.cols + c));
            if (!std.math.isFinite(size)) return fail(e, abi.invalid_argument, "absmax: a weight is NaN or infinite");
            largest = @max(largest, size);
        }
        const s: f32 = @as(f16, @floatCast(largest / 127));
        if (!std.math.isFinite(s)) return fail(e, abi.invalid_argument, "absmax: a scale is too large for float16");
        elements(f32, args.states[0])[r] = if (s == 0) 1 else s; // 0: only zeros
    }
    return abi.ok;
}

/// Ties to even: below 2^22, what is added leaves no bits behind the point.
fn code(x: f32, s: f32) f32 {
    const shift: f32 = 12582912; // 1.5 * 2^23
    return (std.math.clamp(x / s, -128, 127) + shift) - shift;
}

fn forward(table: *abi.Quantizer, _: ?*const anyopaque, args: *const abi.ForwardArgs, _: *abi.Error) callconv(.c) abi.Code {
    const q = of(table);
    for (0..q.rows * q.cols) |i| {
        const s = load(args.states[0], i / q.cols);
        store(args.output, i, rounded(args.input.dtype, code(load(args.input, i), s) * s));
    }
    return abi.ok;
}

fn encode(table: *abi.Quantizer, _: ?*const anyopaque, args: *const abi.EncodeArgs, _: *abi.Error) callconv(.c) abi.Code {
    const q = of(table);
    for (0..q.rows) |r| store(args.tensors[1], r, load(args.states[0], r));
    for (0..q.rows * q.cols) |i|
        elements(u8, args.tensors[0])[i] = @intFromFloat(code(load(args.input, i), load(args.states[0], i / q.cols)) + 128);
    return abi.ok;
}

fn decode(table: *abi.Quantizer, _: ?*const anyopaque, args: *const abi.DecodeArgs, _: *abi.Error) callconv(.c) abi.Code {
    const q = of(table);
    for (0..q.rows * q.cols) |i|
        store(args.output, i, (@as(f32, @floatFromInt(elements(u8, args.tensors[0])[i])) - 128) * load(args.tensors[1], i / q.cols));
    return abi.ok;
}

// ---- the data type ----

/// What is wrong with the layer, or null.
fn refusal(layer: *const abi.Layer) ?[]const u8 {
    const scheme = layer.scheme orelse return "absmax: makes no quantizers from encodings (RH_SUPPORTS_ENCODED)";
    const t = layer.dtype;
    const float = t.lanes == 1 and ((t.kind == abi.kind_float and (t.bits == 32 or t.bits == 16)) or (t.kind == abi.kind_bfloat and t.bits == 16));
    if (layer.matrices > 1) return "absmax: takes one matrix a call (RH_SUPPORTS_BATCHES)";
    if (layer.target != 0) return "absmax: quantizes weights, not activations";
    if (!float) return "absmax: takes weights of float32, float16 or bfloat16";
    if (scheme.bits != 8) return "absmax: has 8 bits: set bits: 8";
    if (scheme.symmetric == 0) return "absmax: is symmetric: set sym: true";
    if (scheme.rounding != 0) return "absmax: rounds plainly: set tuning.iters: 0";
    if (scheme.group_rows != 1 or (scheme.group_cols != -1 and scheme.group_cols < layer.cols))
        return "absmax: has one scale a row: set group_size: -1";
    return null;
}

fn check(_: *const abi.Dtype, layer: *const abi.Layer, e: *abi.Error) callconv(.c) abi.Code {
    return if (refusal(layer)) |words| fail(e, abi.invalid_argument, words) else abi.ok;
}

fn create(dtype: *const abi.Dtype, layer: *const abi.Layer, out: **abi.Quantizer, e: *abi.Error) callconv(.c) abi.Code {
    const checked = check(dtype, layer, e);
    if (checked != abi.ok) return checked;
    const q = std.heap.c_allocator.create(Absmax) catch return fail(e, abi.resource_exhausted, "absmax: out of memory");
    const by_row = [8]i64{ layer.rows, 1, 0, 0, 0, 0, 0, 0 };
    q.* = .{
        .table = .{ .data = q, .destroy = destroy, .info = info, .prepare = prepare, .forward = forward, .encode = encode, .decode = decode },
        .info = .{ .flags = 4, .state_count = 1, .states = &q.states, .encoding = &q.encoding }, // rows are independent
        .encoding = .{ .tensor_count = 2, .id = "affine-int/1", .parameters_json = @ptrCast(&q.parameters), .tensors = &q.tensors },
        .scale = .{ .name = "scale", .dtype = .{ .kind = abi.kind_float, .bits = 32 }, .shape = by_row },
        .codes = .{ .name = "codes", .dtype = .{ .kind = abi.kind_uint, .bits = 8 }, .shape = .{ layer.rows, layer.cols, 0, 0, 0, 0, 0, 0 } },
        .encoded_scale = .{ .name = "scale", .dtype = .{ .kind = abi.kind_float, .bits = 16 }, .shape = by_row },
        .states = .{&q.scale},
        .tensors = .{ &q.codes, &q.encoded_scale },
        .parameters = undefined,
        .rows = @intCast(layer.rows),
        .cols = @intCast(layer.cols),
    };
    _ = std.fmt.bufPrint(&q.parameters, "{{\"bits\": 8, \"group_cols\": {d}, \"group_rows\": 1, \"symmetric\": true}}\x00", .{layer.cols}) catch unreachable;
    out.* = &q.table;
    return abi.ok;
}

const alias = abi.Alias{ .name = "absmax", .scheme_json = "{\"bits\": 8, \"sym\": true, \"group_size\": -1}" };
const aliases = [_]*const abi.Alias{&alias};
const descriptor = abi.DtypeDescriptor{
    .supports = 1 | 4, // CPU, weights
    .id = "absmax",
    .summary = "8-bit integers with a scale for each row, in Zig.",
    .encoding = "affine-int/1",
    .alias_count = 1,
    .aliases = &aliases,
};
const data_type = abi.Dtype{ .descriptor = &descriptor, .check = check, .create = create };
const factory = abi.DtypeFactory{ .count = count, .get = get };
const entry = abi.Entry{
    .name = "absmax",
    .vendor = "Roundhouse examples",
    .version = "1.0.0",
    .summary = "8-bit integers with a scale for each row, in Zig.",
    .init = init,
    .deinit = deinit,
    .get_factory = getFactory,
};

fn count() callconv(.c) u32 {
    return 1;
}
fn get(index: u32) callconv(.c) ?*const abi.Dtype {
    return if (index == 0) &data_type else null;
}
fn init(_: ?*const anyopaque, _: *abi.Error) callconv(.c) abi.Code {
    return abi.ok;
}
fn deinit() callconv(.c) void {}
fn getFactory(id: [*:0]const u8) callconv(.c) ?*const anyopaque {
    return if (std.mem.eql(u8, std.mem.span(id), "roundhouse.dtype-factory/1")) &factory else null;
}
export fn rh_get_entry() *const abi.Entry {
    return &entry;
}
