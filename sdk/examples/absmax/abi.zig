// SPDX-License-Identifier: Apache-2.0
//! Roundhouse's C ABI for data types, 1.0, as Zig sees it, with the headers' names; they say what each member means, who owns
//! it, and which thread may call. What a plugin without tuning does not touch is `?*const anyopaque`.
pub const Code = i32;
pub const ok: Code = 0;
pub const invalid_argument: Code = 3;
pub const resource_exhausted: Code = 8;

pub const kind_uint: u8 = 1;
pub const kind_float: u8 = 2;
pub const kind_bfloat: u8 = 4;

pub const Error = extern struct { code: Code, message: [508]u8 };
pub const DataType = extern struct { kind: u8, bits: u8, lanes: u16 = 1 };
pub const Device = extern struct { type: i32, id: i32 };
pub const Tensor = extern struct {
    data: ?*anyopaque,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: ?[*]i64,
    strides: ?[*]i64,
    byte_offset: u64,
};
pub const Scheme = extern struct {
    struct_size: u32,
    bits: i32,
    dtype: [*:0]const u8,
    symmetric: i32,
    rounding: i32,
    group_rows: i64,
    group_cols: i64,
    dynamic: i32,
    scale_dtype: DataType,
    scale_threshold: f32,
    reserved: u32,
    options_json: [*:0]const u8,
};
pub const TensorSpec = extern struct {
    struct_size: u32 = @sizeOf(TensorSpec),
    ndim: i32 = 2,
    name: [*:0]const u8,
    dtype: DataType,
    lr_group: i32 = 0,
    shape: [8]i64,
    initial: f64 = 0,
    clamp_min: f64 = -infinity,
    clamp_max: f64 = infinity,
};
pub const Encoding = extern struct {
    struct_size: u32 = @sizeOf(Encoding),
    tensor_count: u32,
    id: [*:0]const u8,
    parameters_json: [*:0]const u8,
    tensors: [*]const *const TensorSpec,
};
pub const Layer = extern struct {
    struct_size: u32,
    target: i32,
    name: [*:0]const u8,
    role: [*:0]const u8,
    scheme: ?*const Scheme,
    encoding: ?*const Encoding,
    rows: i64,
    cols: i64,
    dtype: DataType,
    matrices: u32,
    stack: ?*const anyopaque,
};
pub const QuantizerInfo = extern struct {
    struct_size: u32 = @sizeOf(QuantizerInfo),
    flags: u32 = 0,
    tunable_count: u32 = 0,
    state_count: u32 = 0,
    result_count: u32 = 0,
    reduce: i32 = 0,
    tunables: ?[*]const *const TensorSpec = null,
    states: ?[*]const *const TensorSpec = null,
    results: ?[*]const *const TensorSpec = null,
    statistic: ?*const TensorSpec = null,
    encoding: *const Encoding,
    row_multiple: i64 = 1,
};
pub const PrepareArgs = extern struct {
    struct_size: u32,
    reserved: u32,
    input: *const Tensor,
    importance: ?*const Tensor,
    statistic: ?*const Tensor,
    states: [*]const *Tensor,
    encoded: ?[*]const *const Tensor,
};
pub const ForwardArgs = extern struct {
    struct_size: u32,
    reserved: u32,
    input: *const Tensor,
    tunables: ?[*]const ?*const Tensor,
    states: [*]const *const Tensor,
    output: *Tensor,
    results: ?[*]const ?*Tensor,
};
pub const EncodeArgs = extern struct {
    struct_size: u32,
    reserved: u32,
    input: *const Tensor,
    tunables: ?[*]const ?*const Tensor,
    states: [*]const *const Tensor,
    tensors: [*]const *Tensor,
};
pub const DecodeArgs = extern struct {
    struct_size: u32,
    reserved: u32,
    tensors: [*]const *const Tensor,
    output: *Tensor,
};
pub const Quantizer = extern struct {
    struct_size: u32 = @sizeOf(Quantizer),
    reserved: u32 = 0,
    data: ?*anyopaque,
    destroy: *const fn (*Quantizer) callconv(.c) void,
    info: *const fn (*const Quantizer) callconv(.c) *const QuantizerInfo,
    workspace_size: ?*const anyopaque = null,
    measure: ?*const anyopaque = null,
    prepare: ?*const fn (*Quantizer, ?*const anyopaque, *const PrepareArgs, *Error) callconv(.c) Code = null,
    forward: ?*const fn (*Quantizer, ?*const anyopaque, *const ForwardArgs, *Error) callconv(.c) Code = null,
    backward: ?*const anyopaque = null,
    sign_step: ?*const anyopaque = null,
    encode: ?*const fn (*Quantizer, ?*const anyopaque, *const EncodeArgs, *Error) callconv(.c) Code = null,
    decode: ?*const fn (*Quantizer, ?*const anyopaque, *const DecodeArgs, *Error) callconv(.c) Code = null,
    get_extension: ?*const anyopaque = null,
};
pub const Alias = extern struct {
    struct_size: u32 = @sizeOf(Alias),
    reserved: u32 = 0,
    name: [*:0]const u8,
    scheme_json: [*:0]const u8,
};
pub const DtypeDescriptor = extern struct {
    struct_size: u32 = @sizeOf(DtypeDescriptor),
    supports: u32,
    id: [*:0]const u8,
    summary: [*:0]const u8,
    encoding: [*:0]const u8,
    options_schema_json: [*:0]const u8 = "{}",
    alias_count: u32,
    reserved: u32 = 0,
    aliases: [*]const *const Alias,
};
pub const Dtype = extern struct {
    struct_size: u32 = @sizeOf(Dtype),
    reserved: u32 = 0,
    data: ?*anyopaque = null,
    descriptor: *const DtypeDescriptor,
    check: *const fn (*const Dtype, *const Layer, *Error) callconv(.c) Code,
    create: *const fn (*const Dtype, *const Layer, **Quantizer, *Error) callconv(.c) Code,
    get_extension: ?*const anyopaque = null,
};
pub const DtypeFactory = extern struct {
    struct_size: u32 = @sizeOf(DtypeFactory),
    reserved: u32 = 0,
    count: *const fn () callconv(.c) u32,
    get: *const fn (u32) callconv(.c) ?*const Dtype,
};
pub const Entry = extern struct {
    struct_size: u32 = @sizeOf(Entry),
    abi_major: u16 = 1,
    abi_minor: u16 = 0,
    name: [*:0]const u8,
    vendor: [*:0]const u8,
    version: [*:0]const u8,
    summary: [*:0]const u8,
    init: *const fn (?*const anyopaque, *Error) callconv(.c) Code,
    deinit: *const fn () callconv(.c) void,
    get_factory: *const fn ([*:0]const u8) callconv(.c) ?*const anyopaque,
};

const infinity = @import("std").math.inf(f64);
