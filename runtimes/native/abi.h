// The part of onnxruntime's C interface that the library uses, in our own words.
//
// That interface is a table of function pointers to which versions only append, so a slot number and a
// signature are all that is needed; no header of onnxruntime is. Slots and the layout of the custom-op record
// are those of ONNX Runtime (MIT licence) since API version 18; tests/runtimes/test_native_abi.py compares
// them with the real headers where those are installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snnc {

constexpr uint32_t kApiVersion = 18;

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

using Api = const void* const*;
using Status = void;  // opaque; null means success

enum class Type : int {
  kUndefined = 0,
  kFloat = 1,
  kU8 = 2,
  kI8 = 3,
  kU16 = 4,
  kI16 = 5,
  kI32 = 6,
  kI64 = 7,
  kBool = 9,
  kDouble = 11,
};

enum Slot : int {
  kCreateStatus = 0,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt = 86,
  kKernelInfoGetAttributeString = 87,
  kContextGetInput = 90,
  kContextGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseTensorTypeAndShape = 99,
  kKernelInfoGetAttributeFloats = 162,
  kKernelInfoGetAttributeInts = 163,
  kKernelInfoGetInputCount = 230,
  kKernelInfoGetConstantInput = 249,
  kContextParallelFor = 274,
};

enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };

struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, Api, const void*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  Type (*input_type)(const CustomOp*, size_t);
  size_t (*input_count)(const CustomOp*);
  Type (*output_type)(const CustomOp*, size_t);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void*, void*);
  void (*destroy)(void*);
  Characteristic (*input_characteristic)(const CustomOp*, size_t);
  Characteristic (*output_characteristic)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic_input_min)(const CustomOp*);
  int (*variadic_input_homogeneous)(const CustomOp*);
  int (*variadic_output_min)(const CustomOp*);
  int (*variadic_output_homogeneous)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, Api, const void*, void**);
  Status* (*compute_v2)(void*, void*);
  Status* (*infer_shape)(const CustomOp*, void*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
  size_t (*may_inplace)(int**, int**);
  void (*release_may_inplace)(int*, int*);
  size_t (*alias_map)(int**, int**);
  void (*release_alias_map)(int*, int*);
};

static_assert(sizeof(CustomOp) == 26 * sizeof(void*), "the record has 26 words");

}  // namespace snnc
