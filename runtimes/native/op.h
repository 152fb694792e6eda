// What an operator sees: its attributes and constant inputs when it is made, its tensors when it runs.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "abi.h"

namespace snnc {

using Shape = std::vector<int64_t>;

// A refusal; becomes the error status of the call.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse(const std::string& what);
inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

struct Tensor {
  Type type = Type::kUndefined;
  Shape dims;
  const void* data = nullptr;
  std::shared_ptr<const void> copy;  // of data that was not aligned

  int64_t size() const;
  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// The product of some extents, 0 if one is; refuses what does not fit.
int64_t product(const Shape& dims, size_t begin = 0, size_t end = SIZE_MAX);
size_t width_of(Type type);  // bytes of an element

template <class T>
constexpr Type type_of() {
  if constexpr (std::is_same_v<T, float>) return Type::kFloat;
  if constexpr (std::is_same_v<T, int64_t>) return Type::kI64;
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int64_t> || std::is_same_v<T, int32_t>);
  return Type::kI32;
}

int in_range(const char* name, int64_t value, int64_t least, int64_t most);  // of an attribute, or refuses it

// A node while its operator is made.
class Node {
 public:
  Node(Api api, const void* info) : api_(api), info_(info) {}
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t fallback) const;
  int number(const char* name, int64_t least, int64_t most) const { return in_range(name, integer(name), least, most); }
  std::vector<int64_t> integers(const char* name) const;                                       // required
  std::vector<int64_t> integers(const char* name, const std::vector<int64_t>& fallback) const;  // optional
  bool constant(size_t input, Tensor* tensor) const;  // whether the input is an initializer
  Type code_type(const char* name) const;                // a type that codes have
  std::vector<int64_t> codes(const char* name, Type type) const;  // at least one, all of them numbers of that type

 private:
  void refuse_other_type(const char* name) const;

  Api api_;
  const void* info_;
};

// One evaluation.
class Call {
 public:
  Call(Api api, void* context) : api_(api), context_(context) {}
  Tensor input(size_t index) const;
  // Memory for a result. The file declares the element type of codes, so that it is compared with what is written.
  void* output(const Shape& dims, Type type, size_t index = 0) const;
  template <class T>
  T* output_as(const Shape& dims, size_t index = 0) const {
    return static_cast<T*>(output(dims, type_of<T>(), index));
  }
  // Runs body(begin, end) over [0, total) on onnxruntime's threads; `cost` is about the nanoseconds of one step.
  // Each step writes only its own results, so that the split changes no bit.
  void parallel(int64_t total, double cost, const std::function<void(int64_t, int64_t)>& body) const;

 private:
  Api api_;
  void* context_;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const Call& call) const = 0;
};

// How onnxruntime is told of an operator. A type of kUndefined admits any; an output of kUndefined takes its
// type from the file's value information, as it depends on an attribute.
struct Definition {
  const char* name;
  std::vector<Type> inputs;
  Type output;
  std::unique_ptr<Kernel> (*make)(const Node&);
};

void define_membranes(std::vector<Definition>* list);
void define_neurons(std::vector<Definition>* list);
void define_products(std::vector<Definition>* list);
void define_convolutions(std::vector<Definition>* list);
void define_reductions(std::vector<Definition>* list);
void define_pools(std::vector<Definition>* list);
void define_attention(std::vector<Definition>* list);
void define_fused(std::vector<Definition>* list);
void define_moves(std::vector<Definition>* list);
void define_windows(std::vector<Definition>* list);

template <class K>
std::unique_ptr<Kernel> make(const Node& node) {
  return std::make_unique<K>(node);
}

}  // namespace snnc
