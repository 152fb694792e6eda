// SpikeMatMul, SpikeMatMulHeld, HostMatMul.

#include <algorithm>
#include <mutex>

#include "neuron.h"
#include "op.h"
#include "product.h"

namespace snnc {
Geometry geometry(const Tensor& a, const Tensor& b) {
  require(a.rank() >= 1 && b.rank() >= 1, "a matrix product of a number");
  Shape x = a.dims, y = b.dims;
  const bool row = x.size() == 1, column = y.size() == 1;
  if (row) x.insert(x.begin(), 1);
  if (column) y.push_back(1);
  Geometry g;
  g.rows = x[x.size() - 2];
  g.depth = x.back();
  g.columns = y.back();
  require(y[y.size() - 2] == g.depth, "the matrices do not fit each other");
  const size_t stack = std::max(x.size(), y.size()) - 2;
  Shape xs(stack, 1), ys(stack, 1);
  std::copy(x.begin(), x.end() - 2, xs.end() - static_cast<int64_t>(x.size() - 2));
  std::copy(y.begin(), y.end() - 2, ys.end() - static_cast<int64_t>(y.size() - 2));
  for (size_t axis = 0; axis < stack; ++axis) {
    require(xs[axis] == ys[axis] || xs[axis] == 1 || ys[axis] == 1, "the stacks of matrices do not broadcast");
    g.out.push_back(xs[axis] == 1 ? ys[axis] : xs[axis]);
  }
  int64_t count = product(g.out);
  if (g.rows == 0 || g.columns == 0) count = 0;  // a stack of nothing may be of any height
  for (int64_t at = 0; at < count; ++at) {
    int64_t rest = at, left = 0, right = 0, left_stride = 1, right_stride = 1;
    for (size_t axis = stack; axis-- > 0;) {
      const int64_t here = rest % g.out[axis];
      rest /= g.out[axis];
      if (xs[axis] != 1) left += here * left_stride;
      if (ys[axis] != 1) right += here * right_stride;
      left_stride *= xs[axis];
      right_stride *= ys[axis];
    }
    g.left.push_back(left);
    g.right.push_back(right);
  }
  if (!row) g.out.push_back(g.rows);
  if (!column) g.out.push_back(g.columns);
  return g;
}

namespace {

struct Plain : Sink {
  int32_t* out;
  int64_t columns;
  Plain(int32_t* to, int64_t stride) : out(to), columns(stride) {}
  void tile(int64_t row, int rows, int64_t col, int cols, const int32_t* c, int64_t ldc) const override {
    for (int r = 0; r < rows; ++r) {
      std::memcpy(out + (row + r) * columns + col, c + r * ldc, static_cast<size_t>(cols) * 4);
    }
  }
};

template <class T>
std::vector<T> widened(const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.size()));
  auto from = [&](const auto* data) { std::copy(data, data + values.size(), values.begin()); };
  switch (tensor.type) {
    case Type::kU8:
    case Type::kBool:
      from(tensor.as<uint8_t>());
      break;
    case Type::kI8:
      from(tensor.as<int8_t>());
      break;
    case Type::kI16:
      from(tensor.as<int16_t>());
      break;
    case Type::kI32:
      from(tensor.as<int32_t>());
      break;
    case Type::kI64:
      from(tensor.as<int64_t>());
      break;
    default:
      refuse("a product of this element type");
  }
  return values;
}

template <class T>
void plain_products(const Call& call, const Geometry& g, const Tensor& a, const Tensor& b, T* out) {
  const std::vector<T> left = widened<T>(a), right = widened<T>(b);
  const int64_t count = static_cast<int64_t>(g.left.size()) * g.rows;
  call.parallel(count, static_cast<double>(g.depth * g.columns), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t which = at / g.rows, row = at % g.rows;
      multiply_plain(left.data() + (g.left[which] * g.rows + row) * g.depth,
                     right.data() + g.right[which] * g.depth * g.columns, 1, g.depth, g.columns, out + at * g.columns);
    }
  });
}

// Deals tiles of rows and groups of panels to the threads.
void share(const Call& call, const void* left, Type type, int64_t stride, int64_t rows, const Packed& right, const Sink& sink, int moved) {
  const int64_t blocks = (rows + kTileRows - 1) / kTileRows, panels = right.count();
  const int64_t groups = blocks >= 4 ? 1 : std::min<int64_t>(panels, 4);
  const double each = static_cast<double>(std::min<int64_t>(rows, kTileRows) * right.padded * right.columns) / static_cast<double>(groups) / 60.0;
  call.parallel(blocks * groups, each, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      // Neighbouring blocks of one group of panels go together.
      const int64_t group = begin / blocks, block = begin % blocks;
      const int64_t upto = std::min(end - begin, blocks - block);
      multiply(left, type, stride, block * kTileRows, std::min(rows, (block + upto) * kTileRows), right,
               panels * group / groups, panels * (group + 1) / groups, sink, moved);
      begin += upto;
    }
  });
}

// The second operand, packed once for each form if it is a constant.
class Weights {
 public:
  explicit Weights(const Node& node) { constant_ = node.constant(1, &tensor_); }
  const Packed* packed(Form form) const {
    if (!constant_ || tensor_.rank() != 2) return nullptr;
    Made& made = made_[static_cast<size_t>(form)];
    std::call_once(made.once, [&] {
      pack(tensor_.data, tensor_.type, tensor_.dims[0], tensor_.dims[1], tensor_.dims[1], 1, form, &made.packed);
    });
    return &made.packed;
  }
  bool small(const Tensor& tensor) const {
    if (!constant_) return small_values(tensor);
    std::call_once(once_, [&] { small_ = small_values(tensor_); });
    return small_;
  }

 private:
  struct Made {
    std::once_flag once;
    Packed packed;
  };
  bool constant_ = false;
  Tensor tensor_;
  mutable std::once_flag once_;
  mutable bool small_ = false;
  mutable Made made_[kForms];
};

// All rows of a stack times one matrix.
void multiply_rows(const Call& call, const Geometry& g, const Tensor& a, const Tensor& b, const Weights& weights, const Sink& sink) {
  const int64_t count = static_cast<int64_t>(g.left.size()) * g.rows;
  if (!small_values(a) || !weights.small(b)) {
    std::vector<int32_t> sums(static_cast<size_t>(count * g.columns));
    plain_products(call, g, a, b, sums.data());
    sink.tile(0, static_cast<int>(count), 0, static_cast<int>(g.columns), sums.data(), g.columns);
    return;
  }
  int moved = kMoved;
  const Form form = form_of(a, b, &moved);
  const Packed* ready = weights.packed(form);
  Packed local;
  if (ready == nullptr) {
    pack(b.data, b.type, g.depth, g.columns, g.columns, 1, form, &local);
    ready = &local;
  }
  share(call, a.data, a.type, g.depth, count, *ready, sink, moved);
}

class MatMul : public Kernel {
 public:
  explicit MatMul(const Node& node) : weights_(node) {}
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1);
    const Geometry g = geometry(a, b);
    int32_t* out = call.output_as<int32_t>(g.out);
    if (product(g.out) == 0) return;
    if (!small_values(a) || !weights_.small(b)) {
      plain_products(call, g, a, b, out);
      return;
    }
    // Planes of bytes cost more to make than small products take.
    const bool tiny = b.rank() != 2 && g.rows <= kTileRows && g.columns <= kPanel && g.depth <= 128;
    int moved = kMoved;
    const Form form = tiny && (a.type == Type::kI16 || b.type == Type::kI16) ? Form::k16 : form_of(a, b, &moved);
    if (b.rank() == 2) {
      const Packed* ready = weights_.packed(form);
      Packed local;
      if (ready == nullptr) {
        pack(b.data, b.type, g.depth, g.columns, g.columns, 1, form, &local);
        ready = &local;
      }
      const int64_t rows = static_cast<int64_t>(g.left.size()) * g.rows;
      share(call, a.data, a.type, g.depth, rows, *ready, Plain(out, g.columns), moved);
      return;
    }
    const double cost = static_cast<double>(g.rows * g.depth * g.columns) / 50.0;
    call.parallel(static_cast<int64_t>(g.left.size()), cost, [&](int64_t begin, int64_t end) {
      thread_local Packed right;
      for (int64_t which = begin; which < end; ++which) {
        const char* matrix = static_cast<const char*>(b.data) +
                             g.right[which] * g.depth * g.columns * static_cast<int64_t>(width_of(b.type));
        const char* left = static_cast<const char*>(a.data) +
                           g.left[which] * g.rows * g.depth * static_cast<int64_t>(width_of(a.type));
        pack(matrix, b.type, g.depth, g.columns, g.columns, 1, form, &right);
        multiply(left, a.type, g.depth, 0, g.rows, right, 0, right.count(), Plain(out + which * g.rows * g.columns, g.columns), moved);
      }
    });
  }

 private:
  Weights weights_;
};

struct FireSink : Sink {
  const FireTable& table;
  const FireTable::Positions& positions;
  bool shared;
  int width;
  int64_t columns;
  char* out;
  FireSink(const FireTable& t, const FireTable::Positions& p, bool s, int w, int64_t n, char* to)
      : table(t), positions(p), shared(s), width(w), columns(n), out(to) {}
  void tile(int64_t row, int rows, int64_t col, int cols, const int32_t* c, int64_t ldc) const override {
    const FireLine line = table.line(positions, shared ? 0 : col, shared);
    fire_lines(line, c, ldc, rows, cols, width, out + (row * columns + col) * width, columns);
  }
};

// SpikeMatMul and the neuron behind it: the sums stay in cache.
class MatMulFire : public Kernel {
 public:
  explicit MatMulFire(const Node& node)
      : weights_(node), type_(node.code_type("code_type")), codes_(node.codes("codes", type_)),
        depth_(node.integer("depth")) {
    Tensor thresholds;
    require(node.constant(2, &thresholds), "the thresholds are not constant");
    table_ = std::make_unique<FireTable>(thresholds, codes_, depth_);
  }
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1), rows = call.input(3);
    const Geometry g = geometry(a, b);
    require(b.rank() == 2 && a.rank() >= 2, "a fused product has a matrix of weights");
    require(rows.size() == 1 || rows.size() == g.columns, "one row number is needed for each column");
    plan_rows(Shape{rows.size()}, Tensor{rows.type, Shape{rows.size()}, rows.data}, table_->rows());
    char* out = static_cast<char*>(call.output(g.out, type_));
    if (product(g.out) == 0) return;
    FireTable::Positions positions;
    table_->place(rows.as<int32_t>(), rows.size(), &positions);
    const FireSink sink(*table_, positions, rows.size() == 1, static_cast<int>(width_of(type_)), g.columns, out);
    multiply_rows(call, g, a, b, weights_, sink);
  }

 private:
  Weights weights_;
  Type type_;
  std::vector<int64_t> codes_;
  int64_t depth_;
  std::unique_ptr<FireTable> table_;
};

struct FinishSink : Sink {
  FinishLines lines;
  int64_t columns;
  int32_t* out;
  FinishSink(const FinishLines& l, int64_t n, int32_t* to) : lines(l), columns(n), out(to) {}
  void tile(int64_t row, int rows, int64_t col, int cols, const int32_t* c, int64_t ldc) const override {
    FinishLines here = lines;
    for (const int32_t** each : {&here.before, &here.bias, &here.factor, &here.constant, &here.weight}) *each += col;
    if (here.other != nullptr) here.other += row * columns + col;
    kernels().finish_positions(here, c, ldc, rows, cols, out + row * columns + col, columns);
  }
};

// SpikeMatMul and the membrane arithmetic behind it.
class MatMulFinish : public Kernel {
 public:
  explicit MatMulFinish(const Node& node)
      : weights_(node), shift_(node.number("shift", -1, 62)), has_other_(node.integer("has_other") != 0) {}
  // a, b, the five numbers of each column (FinishLines), and what is added.
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1), numbers = call.input(2), other = call.input(3);
    const Geometry g = geometry(a, b);
    require(b.rank() == 2 && a.rank() >= 2, "a fused product has a matrix of weights");
    require(numbers.type == Type::kI32 && numbers.dims == Shape({5, g.columns}), "five numbers are needed for each column");
    require(!has_other_ || (other.type == Type::kI32 && other.dims == g.out), "what is added has another shape than the product");
    int32_t* out = call.output_as<int32_t>(g.out);
    if (product(g.out) == 0) return;
    const int32_t* each = numbers.as<int32_t>();
    const FinishLines lines{each, each + g.columns, each + 2 * g.columns, each + 3 * g.columns, each + 4 * g.columns, shift_,
                            has_other_ ? other.as<int32_t>() : nullptr, g.columns};
    multiply_rows(call, g, a, b, weights_, FinishSink(lines, g.columns, out));
  }

 private:
  Weights weights_;
  int shift_;
  bool has_other_;
};

class HostMatMul : public Kernel {
 public:
  explicit HostMatMul(const Node&) {}
  void run(const Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1);
    const Geometry g = geometry(a, b);
    int64_t* out = call.output_as<int64_t>(g.out);
    if (product(g.out) != 0) plain_products(call, g, a, b, out);
  }
};

}  // namespace

void define_products(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined;
  list->push_back({"SpikeMatMul", {any, any}, Type::kI32, make<MatMul>});
  list->push_back({"SpikeMatMulHeld", {any, any}, Type::kI32, make<MatMul>});
  list->push_back({"NativeMatMulFire", {any, any, Type::kI32, Type::kI32}, any, make<MatMulFire>});
  list->push_back({"NativeMatMulFinish", {any, any, Type::kI32, Type::kI32}, Type::kI32, make<MatMulFinish>});
  list->push_back({"HostMatMul", {any, any}, Type::kI64, make<HostMatMul>});
}

}  // namespace snnc
