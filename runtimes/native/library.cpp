// The one entry point: registers every operator of the domain ai.snnc with onnxruntime.

#include <cstring>
#include <deque>
#include <mutex>

#include "op.h"

#if defined(_WIN32)
#define SNNC_EXPORT extern "C" __declspec(dllexport)
#else
#define SNNC_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace snnc {
namespace {

constexpr int kFail = 1;  // onnxruntime's code of a failure

struct Entry : CustomOp {
  Definition definition;
};

struct Bound {
  Api api;
  std::unique_ptr<Kernel> kernel;
  const char* name;
};

// The status of the exception that is being handled. Nothing is thrown into onnxruntime, which has no handler.
Status* failure(Api api, const char* name) noexcept {
  Status* (*create)(int, const char*);
  const void* address = api[kCreateStatus];
  std::memcpy(&create, &address, sizeof create);
  try {
    try {
      throw;
    } catch (const std::exception& error) {
      return create(kFail, (std::string("snnc ") + name + ": " + error.what()).c_str());
    }
  } catch (...) {
    return create(kFail, "snnc: out of memory");
  }
}

const Definition& definition_of(const CustomOp* op) { return static_cast<const Entry*>(op)->definition; }

Status* create(const CustomOp* op, Api api, const void* info, void** kernel) {
  const Definition& definition = definition_of(op);
  try {
    *kernel = new Bound{api, definition.make(Node(api, info)), definition.name};
    return nullptr;
  } catch (...) {
    return failure(api, definition.name);
  }
}

Status* compute(void* kernel, void* context) {
  const Bound& bound = *static_cast<Bound*>(kernel);
  try {
    bound.kernel->run(Call(bound.api, context));
    return nullptr;
  } catch (...) {
    return failure(bound.api, bound.name);
  }
}

Entry entry_of(const Definition& definition) {
  Entry entry{};
  entry.definition = definition;
  entry.version = kApiVersion;
  entry.name = [](const CustomOp* op) { return definition_of(op).name; };
  entry.provider = [](const CustomOp*) -> const char* { return nullptr; };
  entry.input_type = [](const CustomOp* op, size_t index) { return definition_of(op).inputs[index]; };
  entry.input_count = [](const CustomOp* op) { return definition_of(op).inputs.size(); };
  entry.output_type = [](const CustomOp* op, size_t) { return definition_of(op).output; };
  entry.output_count = [](const CustomOp*) -> size_t { return 1; };
  entry.destroy = [](void* kernel) { delete static_cast<Bound*>(kernel); };
  entry.input_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  // An output that is variadic and of mixed types is the one that onnxruntime does not infer a type for.
  entry.output_characteristic = [](const CustomOp* op, size_t) {
    return definition_of(op).output == Type::kUndefined ? kVariadic : kRequired;
  };
  entry.input_memory = [](const CustomOp*, size_t) { return 0; };
  entry.variadic_input_min = [](const CustomOp*) { return 1; };
  entry.variadic_input_homogeneous = [](const CustomOp*) { return 0; };
  entry.variadic_output_min = [](const CustomOp*) { return 1; };
  entry.variadic_output_homogeneous = [](const CustomOp*) { return 0; };
  entry.create_kernel_v2 = create;
  entry.compute_v2 = compute;
  entry.start_version = [](const CustomOp*) { return 1; };
  entry.end_version = [](const CustomOp*) { return 0x7fffffff; };
  return entry;
}

std::deque<Entry>& entries() {
  static std::deque<Entry>* all = [] {
    std::vector<Definition> list;
    define_membranes(&list);
    define_neurons(&list);
    define_products(&list);
    define_convolutions(&list);
    define_reductions(&list);
    define_pools(&list);
    define_attention(&list);
    define_fused(&list);
    define_moves(&list);
    define_windows(&list);
    auto* made = new std::deque<Entry>;  // lives as long as the process: sessions refer to it
    for (const Definition& definition : list) made->push_back(entry_of(definition));
    return made;
  }();
  return *all;
}

Status* register_with(Api api, void* options) {
  auto call = [api](Slot index, auto signature) {
    const void* address = api[index];
    std::memcpy(&signature, &address, sizeof signature);
    return signature;
  };
  static std::mutex guard;
  static void* domain = nullptr;
  std::lock_guard<std::mutex> lock(guard);
  if (domain == nullptr) {
    void* made = nullptr;
    auto create_domain = call(kCreateCustomOpDomain, static_cast<Status* (*)(const char*, void**)>(nullptr));
    if (Status* status = create_domain("ai.snnc", &made)) return status;
    auto add = call(kCustomOpDomainAdd, static_cast<Status* (*)(void*, const CustomOp*)>(nullptr));
    for (const Entry& entry : entries()) {
      if (Status* status = add(made, &entry)) return status;
    }
    domain = made;
  }
  return call(kAddCustomOpDomain, static_cast<Status* (*)(void*, void*)>(nullptr))(options, domain);
}

}  // namespace
}  // namespace snnc

// Of what the library was made: build.py compares it with the sources, so that a stale library is noticed.
SNNC_EXPORT const char* SnncSources() { return "snnc-native-sources:" SNNC_SOURCES; }

SNNC_EXPORT snnc::Status* RegisterCustomOps(void* options, const snnc::ApiBase* base) {
  using namespace snnc;
  Api api = base->get_api(kApiVersion);
  if (api == nullptr) return nullptr;  // older than 1.18: nothing is registered, function bodies run
  try {
    return register_with(api, options);
  } catch (...) {
    return failure(api, "RegisterCustomOps");
  }
}
