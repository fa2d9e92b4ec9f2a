// Generators of the npu. Each holds a CPU generator, because the CPU kernels accept no other.
#include "simulator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <vector>

namespace npusim {
namespace {

struct NpuGenerator final : c10::GeneratorImpl {
  explicit NpuGenerator(c10::DeviceIndex index, at::Generator host)
      : GeneratorImpl(c10::Device(kNpu, index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host_(std::move(host)) {}

  void set_current_seed(uint64_t seed) override { host_.set_current_seed(seed); }
  uint64_t current_seed() const override { return host_.current_seed(); }
  uint64_t seed() override { return impl().seed(); }
  void set_offset(uint64_t offset) override { impl().set_offset(offset); }
  uint64_t get_offset() const override { return impl().get_offset(); }
  void set_state(const c10::TensorImpl& state) override { impl().set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return impl().get_state(); }
  const at::Generator& host() const { return host_; }

 private:
  GeneratorImpl& impl() const { return *host_.unsafeGetGeneratorImpl(); }
  NpuGenerator* clone_impl() const override { return new NpuGenerator(device_.index(), host_.clone()); }
  at::Generator host_;
};

c10::DeviceIndex or_current(c10::DeviceIndex index) {
  return index < 0 ? current_device() : index;
}

} // namespace

const at::Generator& default_generator(c10::DeviceIndex index) {
  static const std::vector<at::Generator> generators = [] {
    std::vector<at::Generator> made;
    for (c10::DeviceIndex i = 0; i < device_count(); ++i) {
      made.push_back(new_generator(i));
    }
    return made;
  }();
  const auto wanted = or_current(index);
  TORCH_CHECK(size_t(wanted) < generators.size(), "NPU error: invalid device ordinal ", int(wanted));
  return generators[wanted];
}

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<NpuGenerator>(or_current(index), at::detail::createCPUGenerator());
}

at::Generator host_generator(const at::Generator& generator) {
  return static_cast<NpuGenerator*>(generator.unsafeGetGeneratorImpl())->host();
}

} // namespace npusim
