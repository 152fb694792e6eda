// Integer matrix products: rows of codes times a packed matrix, tile by tile, with what follows applied to each
// tile while it is in cache.
#pragma once

#include <cstring>
#include <vector>

#include "kernels.h"
#include "op.h"

namespace snnc {

constexpr int kTileRows = 64;  // a multiple of 16: matrix registers write whole blocks

// A block of sums on its way out.
struct Sink {
  virtual ~Sink() = default;
  // c holds rows x cols sums that start at (row, col) of the product.
  virtual void tile(int64_t row, int rows, int64_t col, int cols, const int32_t* c, int64_t ldc) const = 0;
  // Where the block goes without `tile`, or null. There must be room for whole multiples of 16 rows and columns.
  virtual int32_t* place(int64_t, int64_t, int64_t*) const { return nullptr; }
};

// Sums that stay where they are put: in an array whose rows are `pitch` apart.
struct Block : Sink {
  int32_t* out;
  int64_t pitch;
  Block(int32_t* to, int64_t p) : out(to), pitch(p) {}
  void tile(int64_t, int, int64_t, int, const int32_t*, int64_t) const override {}
  int32_t* place(int64_t row, int64_t col, int64_t* ldc) const override {
    *ldc = pitch;
    return out + row * pitch + col;
  }
};

// Memory aligned to a cache line, kept by each thread between calls.
class Scratch {
 public:
  ~Scratch();
  void* get(size_t bytes);
  template <class T>
  T* as(size_t count) {
    return static_cast<T*>(get(count * sizeof(T)));
  }

 private:
  void* data_ = nullptr;
  size_t room_ = 0;
};

// 16-bit pairs; bytes with unsigned rows; bytes with rows moved by 128; the same with 16-bit rows, whose few numbers
// beyond a byte are multiplied apart; planes of bytes in matrix registers.
enum class Form { k16, k8Unsigned, k8Signed, k8Rests, kBytes };
constexpr int kForms = 5;

struct AlignedBytes {
  std::vector<unsigned char> store;
  unsigned char* begin = nullptr;
  void resize(size_t bytes);
};

// A matrix of `depth` x `columns`, in panels of kPanel columns.
struct Packed {
  Form form = Form::k16;
  int64_t depth = 0, padded = 0, columns = 0;
  AlignedBytes panels;
  std::vector<int32_t> start;  // rows moved by kMoved: what that added, negated
  int planes = 1;              // kBytes: 2 where numbers are more than a byte
  bool is_unsigned = false;
  int64_t plane_bytes = 0;
  int width(int64_t panel) const;
  const void* at(int64_t panel, int plane = 0) const;
  int64_t count() const { return (columns + kPanel - 1) / kPanel; }
};

bool fits16(Type type);
constexpr int kMoved = 128;  // what moves a signed byte to an unsigned one

// The form in which a product is taken. Looks at 16-bit values, as small ones go through products of bytes. With
// `moved`, rows of k8Rests may be moved by another number, if all fit a byte then.
Form form_of(const Tensor& rows, const Tensor& matrix, int* moved = nullptr);

// Matrix registers are set up while a thread multiplies, and only then.
struct MatrixGuard {
  explicit MatrixGuard(bool used) : used_(used) {
    if (used_) kernels().begin_bytes();
  }
  ~MatrixGuard() {
    if (used_) kernels().end_bytes();
  }
  bool used_;
};

// Packs element (k, n) = data[k * k_stride + n * n_stride]. The element type must fit the form.
void pack(const void* data, Type type, int64_t depth, int64_t columns, int64_t k_stride, int64_t n_stride, Form form,
          Packed* out);

// Whether all values fit 16 bits, for types that are wider.
bool small_values(const Tensor& tensor);
void to16(const void* from, Type type, int64_t count, int16_t* to);

// Rows [begin, end) of `left` (row-major, `stride` elements apart) times panels [first, last). If rows are further
// apart than they are long, there must be room for multiples of 16 of them. `moved`: as form_of chose it.
void multiply(const void* left, Type type, int64_t stride, int64_t begin, int64_t end, const Packed& right,
              int64_t first, int64_t last, const Sink& sink, int moved = kMoved);

// Extents of a product of stacks of matrices, ONNX MatMul's rules.
struct Geometry {
  Shape out;
  int64_t rows, depth, columns;
  std::vector<int64_t> left, right;  // matrix of each operand for each product of the stack
};

Geometry geometry(const Tensor& a, const Tensor& b);

// The slow way, for operands beyond 16 bits: wraps modulo 2^32 (or 2^64), as the sums are proved to fit.
template <class T, class A, class B>
void multiply_plain(const A* a, const B* b, int64_t rows, int64_t depth, int64_t columns, T* c);

}  // namespace snnc
