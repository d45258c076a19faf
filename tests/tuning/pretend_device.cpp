// SPDX-License-Identifier: Apache-2.0
#include "tests/tuning/pretend_device.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>

namespace roundhouse::pretend {
namespace {

constexpr at::DeviceType kType = at::kPrivateUse1;
constexpr c10::DeviceIndex kDevices = 2;

thread_local c10::DeviceIndex current_device = 0;

// ---- memory ----

// A file's pages, mapped twice: at the addresses of the device, where nothing may be read or written, and for us.
class Memory : public c10::Allocator {
 public:
  static Memory& instance() {
    static auto* const memory = new Memory;  // outlives every tensor
    return *memory;
  }

  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(kType, current_device);
    if (bytes == 0) return {nullptr, device};
    const std::lock_guard lock(mutex_);
    ++allocations_;
    TORCH_CHECK_WITH(OutOfMemoryError, failing_ == 0 || --failing_ > 0,
                     "pretend device out of memory. Tried to allocate ", bytes,
                     " bytes. Of the allocator's state nothing is known.");
    const size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    size_t at = used_;
    if (const auto free = free_.find(room); free != free_.end()) {
      at = free->second;
      free_.erase(free);
    } else {
      TORCH_CHECK_WITH(OutOfMemoryError, used_ + room <= kCapacity, "pretend device out of memory");
      used_ += room;
    }
    live_[at] = bytes;
    live_bytes_ += static_cast<int64_t>(bytes);
    peak_bytes_ = std::max(peak_bytes_, live_bytes_);
    std::memset(ours_ + at, kUnset, room);
    return {device_ + at, device_ + at, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(ours(to), ours(from), bytes); }

  // Where we can read what a pointer of the device points to.
  char* ours(const void* data) const {
    if (!data) return nullptr;
    const auto at = static_cast<size_t>(static_cast<const char*>(data) - device_);
    TORCH_INTERNAL_ASSERT(at < kCapacity, "a pointer to host memory in a tensor of the device");
    return ours_ + at;
  }

  // Whether addresses of the device may be read and written: while kernels run on them.
  void let_in(bool open) { ::mprotect(device_, kCapacity, open ? PROT_READ | PROT_WRITE : PROT_NONE); }

  int64_t allocations() {
    return locked([&] { return allocations_; });
  }
  int64_t live_bytes() {
    return locked([&] { return live_bytes_; });
  }
  int64_t take_peak_bytes() {
    return locked([&] { return std::exchange(peak_bytes_, live_bytes_); });
  }
  void fail(int64_t n) {
    locked([&] { return failing_ = n; });
  }

 private:
  static constexpr size_t kCapacity = size_t{4} << 30;  // of addresses; pages come as they are used
  static constexpr size_t kAlignment = 256;
  static constexpr int kUnset = 0xff;  // NaN in every floating type

  Memory() {
    const int file = ::memfd_create("pretend_device", 0);
    if (file < 0 || ::ftruncate(file, kCapacity) != 0) throw std::runtime_error("no memory for the pretend device");
    const auto map = [&](int protection) {
      void* const data = ::mmap(nullptr, kCapacity, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
      if (data == MAP_FAILED) throw std::runtime_error("no addresses for the pretend device");
      return static_cast<char*>(data);
    };
    device_ = map(PROT_NONE);
    ours_ = map(PROT_READ | PROT_WRITE);
    ::close(file);
  }

  static void release(void* data) {
    if (!data) return;
    Memory& self = instance();
    const std::lock_guard lock(self.mutex_);
    const auto at = static_cast<size_t>(static_cast<char*>(data) - self.device_);
    const auto found = self.live_.find(at);
    const size_t room = (found->second + kAlignment - 1) / kAlignment * kAlignment;
    self.live_bytes_ -= static_cast<int64_t>(found->second);
    std::memset(self.ours_ + at, kUnset, room);
    self.free_.emplace(room, at);
    self.live_.erase(found);
  }

  template <typename Body>
  int64_t locked(const Body& body) {
    const std::lock_guard lock(mutex_);
    return body();
  }

  std::mutex mutex_;
  char *device_, *ours_;
  size_t used_ = 0;
  std::map<size_t, size_t> live_;       // bytes, by offset
  std::multimap<size_t, size_t> free_;  // offsets, by bytes
  int64_t allocations_ = 0, live_bytes_ = 0, peak_bytes_ = 0, failing_ = 0;
};

// Host memory that the device may copy from and to while the host goes on.
class PinnedMemory : public c10::Allocator {
 public:
  static PinnedMemory& instance() {
    static auto* const memory = new PinnedMemory;
    return *memory;
  }
  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(mutex_);
    char* const data = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    pinned_[data] = {bytes, {}, false};
    bytes_ += static_cast<int64_t>(bytes);
    peak_bytes_ = std::max(peak_bytes_, bytes_);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool holds(const void* data) {
    const std::lock_guard lock(mutex_);
    return pinned_.count(data) > 0;
  }
  // The device may copy from there until arrived().
  void begin_copy(const at::Tensor& from) {
    const std::lock_guard lock(mutex_);
    const auto* const data = static_cast<const char*>(from.const_data_ptr());
    pinned_.at(from.storage().data()).copies.push_back({data, {data, data + from.nbytes()}});
  }
  void arrived() {
    const std::lock_guard lock(mutex_);
    bool same = true;
    for (auto block = pinned_.begin(); block != pinned_.end();) {
      for (const Copy& copy : std::exchange(block->second.copies, {}))
        same &= std::memcmp(copy.from, copy.bytes.data(), copy.bytes.size()) == 0;
      block = block->second.released ? give_back(block) : std::next(block);
    }
    TORCH_CHECK(same, "host memory was written to while the device could still copy from it");
  }
  int64_t take_peak_bytes() {
    const std::lock_guard lock(mutex_);
    return std::exchange(peak_bytes_, bytes_);
  }

 private:
  struct Copy {
    const char* from;
    std::vector<char> bytes;
  };
  struct Block {
    size_t bytes;
    std::vector<Copy> copies;
    bool released;
  };
  using Blocks = std::map<const void*, Block>;

  static void release(void* data) {
    const std::lock_guard lock(instance().mutex_);
    const auto block = instance().pinned_.find(data);
    if (block->second.copies.empty())
      instance().give_back(block);
    else
      block->second.released = true;
  }
  Blocks::iterator give_back(Blocks::iterator block) {
    bytes_ -= static_cast<int64_t>(block->second.bytes);
    std::free(const_cast<void*>(block->first));
    return pinned_.erase(block);
  }

  std::mutex mutex_;
  Blocks pinned_;
  int64_t bytes_ = 0, peak_bytes_ = 0;
};

// ---- what is late, and what waits ----

thread_local int within_operator = 0;  // copies there are the operator's own
struct WithinOperator {
  WithinOperator() { ++within_operator; }
  ~WithinOperator() { --within_operator; }
};

// Copies to the host that were begun and arrive when an event or the device is waited for.
class Timeline {
 public:
  static Timeline& instance() {
    static auto* const timeline = new Timeline;
    return *timeline;
  }
  void wait(const std::string& what, int64_t elements) {
    if (within_operator > 0) return;
    finish();
    const std::lock_guard lock(mutex_);
    waits_.push_back({what, elements});
  }
  void later(std::function<void()> copy) {
    const std::lock_guard lock(mutex_);
    late_.push_back(std::move(copy));
  }
  void ran(const std::string& name) {
    const std::lock_guard lock(mutex_);
    operators_.push_back(name);
  }
  void finish() {
    std::vector<std::function<void()>> late;
    {
      const std::lock_guard lock(mutex_);
      late.swap(late_);
    }
    for (const auto& copy : late) copy();
    PinnedMemory::instance().arrived();
  }
  std::vector<Wait> take_waits() {
    const std::lock_guard lock(mutex_);
    return std::exchange(waits_, {});
  }
  std::vector<std::string> take_operators() {
    const std::lock_guard lock(mutex_);
    return std::exchange(operators_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> late_;
  std::vector<Wait> waits_;
  std::vector<std::string> operators_;
};

// ---- what libtorch asks a device for ----

struct Guard : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device previous = getDevice();
    setDevice(device);
    return previous;
  }
  c10::Device getDevice() const override { return {kType, current_device}; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() >= 0 && device.index() < kDevices, "invalid device ordinal ", device);
    current_device = device.index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_device = device.index(); }
  c10::Stream getStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  void* getStreamNativeHandle(const c10::Stream) const override { return nullptr; }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    static char recorded;
    *event = &recorded;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeEvent(void*) const override { Timeline::instance().finish(); }
  void synchronizeStream(const c10::Stream&) const override { Timeline::instance().wait("synchronizeStream", 0); }
  void synchronizeDevice(c10::DeviceIndex) const override { Timeline::instance().wait("synchronizeDevice", 0); }
};

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &PinnedMemory::instance(); }
  bool isPinnedPtr(const void* data) const override { return PinnedMemory::instance().holds(data); }
};

// ---- operators ----

// The same elements as a tensor of the processor.
at::Tensor ours(const at::Tensor& tensor) {
  if (!tensor.is_privateuseone()) return tensor;
  return at::from_blob(Memory::instance().ours(tensor.data_ptr()), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

c10::DispatchKeySet keys() { return c10::DispatchKeySet(c10::DispatchKey::PrivateUse1); }

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.value_or(at::Device(kType, current_device)));
  return at::detail::empty_generic(size, &Memory::instance(), keys(), c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device.value_or(at::Device(kType, current_device)));
  return at::detail::empty_strided_generic(size, stride, &Memory::instance(), keys(), c10::dtype_or_default(type));
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const size_t bytes = at::detail::computeStorageNbytesContiguous(size, self.itemsize(), self.storage_offset());
  if (bytes > self.storage().nbytes()) {
    const c10::DeviceGuard guard(self.device());
    c10::StorageImpl* const storage = self.storage().unsafeGetStorageImpl();
    c10::DataPtr data = Memory::instance().allocate(bytes);
    if (storage->nbytes() > 0) Memory::instance().copy_data(data.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(data));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const bool crosses = from.device() != to.device();
  const bool to_host = to.is_cpu(), waits = crosses && !(non_blocking && (to_host ? to : from).is_pinned());
  if (waits) Timeline::instance().wait(to_host ? "a copy to the host" : "a copy from the host", from.numel());
  if (crosses && to_host && !waits && within_operator == 0) {
    const at::Tensor sent = ours(from).clone();
    Timeline::instance().later([sent, to] { to.copy_(sent); });
    to.fill_(to.is_floating_point() ? at::Scalar(NAN) : at::Scalar(1));
  } else {
    ours(to).copy_(ours(from));
    if (crosses && !to_host && !waits && within_operator == 0) PinnedMemory::instance().begin_copy(from);
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  Timeline::instance().wait("a scalar", 1);
  return ours(self).item();
}

// Attention by one operator, as the CPU and CUDA have it.
int64_t fused_sdp_choice(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const std::optional<at::Tensor>& mask, double dropout_p, bool is_causal,
                         std::optional<double> scale, bool enable_gqa) {
  return at::_fused_sdp_choice(ours(q), ours(k), ours(v), mask ? std::optional(ours(*mask)) : mask, dropout_p,
                               is_causal, scale, enable_gqa);
}

// All tensors are on one device, but for numbers.
void check_devices(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  std::optional<at::Device> device;
  const auto check = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || (tensor.is_cpu() && tensor.dim() == 0)) return;
    TORCH_CHECK(!device || *device == tensor.device(), op.operator_name(),
                ": Expected all tensors to be on the same device, but found at least two devices, ", *device, " and ",
                tensor.device());
    device = tensor.device();
  };
  for (const c10::IValue& value : torch::jit::last(stack, op.schema().arguments().size())) {
    if (value.isTensor()) check(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) check(tensor);
    if (value.isOptionalTensorList())
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        if (tensor) check(*tensor);
  }
}

// What CUDA's operators of libtorch 2.11 say of themselves in deterministic mode, as far as it depends on the name and
// the type alone.
bool refused_if_deterministic(const std::string& name, const torch::jit::Stack& stack, size_t arguments) {
  static const std::set<std::string> kAlways = {
      "aten::histc",      "aten::kthvalue",       "aten::kthvalue.values", "aten::put_",
      "aten::median.dim", "aten::_embedding_bag", "aten::scatter_reduce",  "aten::scatter_reduce.two"};
  if (kAlways.count(name)) return true;
  const auto& first = torch::jit::peek(stack, 0, arguments);
  return name.rfind("aten::cumsum", 0) == 0 && first.isTensor() && first.toTensor().is_floating_point();
}

void run_on_processor(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  // The shapes of their results, or what they check first, are known to the host after the work alone.
  static const std::set<std::string> kWaiting = {"aten::nonzero",  "aten::bincount", "aten::masked_select",
                                                 "aten::_unique2", "aten::equal",    "aten::repeat_interleave.Tensor"};
  const std::string name = c10::toString(op.operator_name());
  check_devices(op, *stack);
  if (refused_if_deterministic(name, *stack, op.schema().arguments().size()))
    at::globalContext().alertNotDeterministic(name);
  if (kWaiting.count(name)) Timeline::instance().wait(name, 0);
  Timeline::instance().ran(name);
  const WithinOperator within;
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

// CUDA alone has it in libtorch; here with the bits of the host's own on the CPU.
std::tuple<at::Tensor, at::Tensor> fused_rms_norm_backward(const at::Tensor& dy, const at::Tensor& x,
                                                           at::IntArrayRef normed, const at::Tensor& rstd,
                                                           const std::optional<at::Tensor>& weight,
                                                           std::array<bool, 2> wanted) {
  TORCH_CHECK(dy.is_contiguous() && x.is_contiguous() && dy.sizes() == x.sizes() &&
              dy.scalar_type() == x.scalar_type());
  TORCH_CHECK(normed == at::IntArrayRef({x.size(-1)}) && rstd.scalar_type() == at::kFloat && rstd.size(-1) == 1);
  TORCH_CHECK(!weight && wanted[0] && !wanted[1], "not made for a weight");
  const at::Tensor g = dy.to(at::kFloat), n = x.to(at::kFloat).mul(rstd);
  const at::Tensor mean = (g * n).mean(-1, /*keepdim=*/true);
  return {(g - n * mean).mul_(rstd).to(x.scalar_type()), at::Tensor()};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_processor>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar);
  // Elsewhere than on the CPU and CUDA libtorch makes it of others, with other bits.
  m.impl("_fused_rms_norm_backward", &fused_rms_norm_backward);
  m.impl("_fused_rms_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_processor>());
}

const bool registered = [] {
  c10::register_privateuse1_backend("pretend");
  c10::SetAllocator(kType, &Memory::instance());
  c10::impl::registerDeviceGuard(kType, new Guard);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

}  // namespace
}  // namespace roundhouse::pretend

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &roundhouse::pretend::fused_sdp_choice)
}

namespace roundhouse::pretend {

void let_kernels_in(bool open) { Memory::instance().let_in(open); }
int64_t allocations() { return Memory::instance().allocations(); }
int64_t live_bytes() { return Memory::instance().live_bytes(); }
int64_t take_peak_bytes() { return Memory::instance().take_peak_bytes(); }
int64_t take_peak_pinned_bytes() { return PinnedMemory::instance().take_peak_bytes(); }
void fail_allocation(int64_t n) { Memory::instance().fail(n); }
std::vector<Wait> take_waits() { return Timeline::instance().take_waits(); }
std::vector<std::string> take_operators() { return Timeline::instance().take_operators(); }

}  // namespace roundhouse::pretend
