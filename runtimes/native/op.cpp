#include "op.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace snnc {
namespace {

template <class F>
F slot(Api api, Slot index) {
  F function;
  const void* address = api[index];
  std::memcpy(&function, &address, sizeof function);
  return function;
}

// Frees a status and says whether it meant failure.
bool failed(Api api, Status* status) {
  if (status == nullptr) return false;
  slot<void (*)(Status*)>(api, kReleaseStatus)(status);
  return true;
}

void check(Api api, Status* status, const char* what) {
  if (failed(api, status)) refuse(what);
}

// Buffers of callers and files mapped into memory may begin anywhere; loops read whole elements.
void align(Tensor* tensor) {
  const bool words = tensor->type != Type::kUndefined && tensor->type <= Type::kI64 && width_of(tensor->type) > 1;
  if (!words || reinterpret_cast<uintptr_t>(tensor->data) % width_of(tensor->type) == 0) return;
  const size_t bytes = static_cast<size_t>(tensor->size()) * width_of(tensor->type);
  std::shared_ptr<void> copy(std::malloc(std::max<size_t>(bytes, 1)), std::free);
  if (copy == nullptr) throw std::bad_alloc();
  if (bytes != 0) std::memcpy(copy.get(), tensor->data, bytes);
  tensor->data = copy.get();
  tensor->copy = copy;
}

Tensor describe(Api api, const void* value) {
  Tensor tensor;
  void* info = nullptr;
  check(api, slot<Status* (*)(const void*, void**)>(api, kGetTensorTypeAndShape)(value, &info), "no tensor");
  int type = 0;
  size_t rank = 0;
  Status* first = slot<Status* (*)(const void*, int*)>(api, kGetTensorElementType)(info, &type);
  Status* second = slot<Status* (*)(const void*, size_t*)>(api, kGetDimensionsCount)(info, &rank);
  tensor.dims.resize(rank);
  Status* third =
      slot<Status* (*)(const void*, int64_t*, size_t)>(api, kGetDimensions)(info, tensor.dims.data(), rank);
  slot<void (*)(void*)>(api, kReleaseTensorTypeAndShape)(info);
  bool bad = failed(api, first);
  bad = failed(api, second) || bad;
  bad = failed(api, third) || bad;
  require(!bad, "the shape of a tensor cannot be read");
  tensor.type = static_cast<Type>(type);
  void* data = nullptr;
  check(api, slot<Status* (*)(void*, void**)>(api, kGetTensorMutableData)(const_cast<void*>(value), &data),
        "the data of a tensor cannot be read");
  tensor.data = data;
  align(&tensor);
  return tensor;
}

}  // namespace

void refuse(const std::string& what) { throw Refusal(what); }

int64_t product(const Shape& dims, size_t begin, size_t end) {
  int64_t count = 1;
  bool fits = true;
  for (size_t axis = begin; axis < std::min(end, dims.size()); ++axis) {
    if (dims[axis] == 0) return 0;
    fits = !__builtin_mul_overflow(count, dims[axis], &count) && fits;
  }
  require(fits, "a tensor has too many elements");
  return count;
}

int64_t Tensor::size() const { return product(dims); }

size_t width_of(Type type) {
  switch (type) {
    case Type::kU8:
    case Type::kI8:
    case Type::kBool:
      return 1;
    case Type::kU16:
    case Type::kI16:
      return 2;
    case Type::kFloat:
    case Type::kI32:
      return 4;
    case Type::kI64:
    case Type::kDouble:
      return 8;
    default:
      refuse("an element type that snnc does not use");
  }
}

int64_t Node::integer(const char* name) const {
  int64_t value = 0;
  auto get = slot<Status* (*)(const void*, const char*, int64_t*)>(api_, kKernelInfoGetAttributeInt);
  if (failed(api_, get(info_, name, &value))) refuse(std::string("attribute '") + name + "' is missing or no integer");
  return value;
}

int64_t Node::integer(const char* name, int64_t fallback) const {
  int64_t value = 0;
  auto get = slot<Status* (*)(const void*, const char*, int64_t*)>(api_, kKernelInfoGetAttributeInt);
  if (!failed(api_, get(info_, name, &value))) return value;
  refuse_other_type(name);
  return fallback;
}

int in_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    refuse(std::string("attribute '") + name + "' is a number out of range: " + std::to_string(value));
  }
  return static_cast<int>(value);
}

std::vector<int64_t> Node::integers(const char* name) const {
  auto get = slot<Status* (*)(const void*, const char*, int64_t*, size_t*)>(api_, kKernelInfoGetAttributeInts);
  size_t count = 0;
  if (failed(api_, get(info_, name, nullptr, &count))) refuse(std::string("attribute '") + name + "' is missing or no list of integers");
  std::vector<int64_t> values(count);
  if (count != 0) check(api_, get(info_, name, values.data(), &count), "an attribute cannot be read");
  return values;
}

std::vector<int64_t> Node::integers(const char* name, const std::vector<int64_t>& fallback) const {
  auto get = slot<Status* (*)(const void*, const char*, int64_t*, size_t*)>(api_, kKernelInfoGetAttributeInts);
  size_t count = 0;
  if (failed(api_, get(info_, name, nullptr, &count))) {
    refuse_other_type(name);
    return fallback;
  }
  if (count == 0) return fallback;
  std::vector<int64_t> values(count);
  check(api_, get(info_, name, values.data(), &count), "an attribute cannot be read");
  return values;
}

// An attribute that cannot be read is absent, or is there with another type: then nothing may stand for it.
void Node::refuse_other_type(const char* name) const {
  float number = 0;
  int64_t integer = 0;
  size_t size = 0;
  bool there = !failed(api_, slot<Status* (*)(const void*, const char*, float*)>(api_, kKernelInfoGetAttributeFloat)(info_, name, &number));
  there = there || !failed(api_, slot<Status* (*)(const void*, const char*, int64_t*)>(api_, kKernelInfoGetAttributeInt)(info_, name, &integer));
  there = there || !failed(api_, slot<Status* (*)(const void*, const char*, char*, size_t*)>(api_, kKernelInfoGetAttributeString)(info_, name, nullptr, &size));
  there = there || !failed(api_, slot<Status* (*)(const void*, const char*, float*, size_t*)>(api_, kKernelInfoGetAttributeFloats)(info_, name, nullptr, &size));
  there = there || !failed(api_, slot<Status* (*)(const void*, const char*, int64_t*, size_t*)>(api_, kKernelInfoGetAttributeInts)(info_, name, nullptr, &size));
  if (there) refuse(std::string("attribute '") + name + "' has the wrong type");
}

Type Node::code_type(const char* name) const {
  const int64_t given = integer(name);
  for (Type type : {Type::kU8, Type::kI8, Type::kI16, Type::kI32}) {
    if (given == static_cast<int64_t>(type)) return type;
  }
  refuse(std::string("attribute '") + name + "' is no element type of codes");
}

std::vector<int64_t> Node::codes(const char* name, Type type) const {
  const int bits = 8 * static_cast<int>(width_of(type)) - (type == Type::kU8 ? 0 : 1);
  const int64_t most = (int64_t{1} << bits) - 1, least = type == Type::kU8 ? 0 : -most - 1;
  const std::vector<int64_t> values = integers(name);
  const bool fit = std::all_of(values.begin(), values.end(), [&](int64_t code) { return code >= least && code <= most; });
  if (values.empty() || !fit) refuse(std::string("attribute '") + name + "' has no codes, or ones that its element type lacks");
  return values;
}

bool Node::constant(size_t input, Tensor* tensor) const {
  size_t count = 0;
  auto counts = slot<Status* (*)(const void*, size_t*)>(api_, kKernelInfoGetInputCount);
  if (failed(api_, counts(info_, &count)) || input >= count) refuse("an input is missing");
  int constant = 0;
  const void* value = nullptr;
  auto get = slot<Status* (*)(const void*, size_t, int*, const void**)>(api_, kKernelInfoGetConstantInput);
  if (failed(api_, get(info_, input, &constant, &value)) || constant == 0 || value == nullptr) return false;
  *tensor = describe(api_, value);
  return true;
}

Tensor Call::input(size_t index) const {
  const void* value = nullptr;
  auto get = slot<Status* (*)(const void*, size_t, const void**)>(api_, kContextGetInput);
  check(api_, get(context_, index, &value), "an input is missing");
  require(value != nullptr, "an input is missing");
  return describe(api_, value);
}

void* Call::output(const Shape& dims, Type type, size_t index) const {
  void* value = nullptr;
  auto get = slot<Status* (*)(void*, size_t, const int64_t*, size_t, void**)>(api_, kContextGetOutput);
  check(api_, get(context_, index, dims.data(), dims.size(), &value), "the output cannot be allocated");
  require(value != nullptr, "the output is missing");
  void* info = nullptr;
  check(api_, slot<Status* (*)(const void*, void**)>(api_, kGetTensorTypeAndShape)(value, &info), "no output");
  int declared = 0;
  Status* read = slot<Status* (*)(const void*, int*)>(api_, kGetTensorElementType)(info, &declared);
  slot<void (*)(void*)>(api_, kReleaseTensorTypeAndShape)(info);
  require(!failed(api_, read) && declared == static_cast<int>(type), "the output is declared with another element type");
  void* data = nullptr;
  check(api_, slot<Status* (*)(void*, void**)>(api_, kGetTensorMutableData)(value, &data), "no output data");
  return data;
}

void Call::parallel(int64_t total, double cost, const std::function<void(int64_t, int64_t)>& body) const {
  if (total <= 0) return;
  // About 15 microseconds of work for each piece; onnxruntime deals pieces to its threads.
  const double work = cost * static_cast<double>(total);
  const int64_t pieces = std::min(total, static_cast<int64_t>(std::min(work / 15000.0, 63.0)) + 1);
  if (pieces <= 1) {
    body(0, total);
    return;
  }
  struct Job {
    const std::function<void(int64_t, int64_t)>* body;
    int64_t total, pieces;
    std::vector<std::exception_ptr> failures;
  } job{&body, total, pieces, std::vector<std::exception_ptr>(static_cast<size_t>(pieces))};
  auto step = [](void* data, size_t piece) {
    Job& shared = *static_cast<Job*>(data);
    const int64_t at = static_cast<int64_t>(piece);
    try {
      (*shared.body)(shared.total * at / shared.pieces, shared.total * (at + 1) / shared.pieces);
    } catch (...) {
      shared.failures[piece] = std::current_exception();  // it must not cross onnxruntime's threads
    }
  };
  auto run = slot<Status* (*)(const void*, void (*)(void*, size_t), size_t, size_t, void*)>(api_, kContextParallelFor);
  check(api_, run(context_, step, static_cast<size_t>(pieces), 0, &job), "the thread pool fails");
  for (const std::exception_ptr& failure : job.failures) {
    if (failure != nullptr) std::rethrow_exception(failure);
  }
}

}  // namespace snnc
