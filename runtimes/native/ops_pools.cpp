// MembraneSumPool, SpikeSumPool, MembraneMaxPool, SpikeMaxPool, SpikePad.

#include <cstring>
#include <limits>

#include "kernels.h"
#include "op.h"
#include "window.h"

namespace snnc {
namespace {

template <class F>
void with_integers(const Tensor& tensor, F body) {
  switch (tensor.type) {
    case Type::kU8:
      return body(tensor.as<uint8_t>());
    case Type::kI8:
      return body(tensor.as<int8_t>());
    case Type::kI16:
      return body(tensor.as<int16_t>());
    case Type::kI32:
      return body(tensor.as<int32_t>());
    default:
      refuse("a pool of this element type");
  }
}

template <class T>
void raise(const T* x, int64_t stride, int64_t count, T* best) {
  if (stride == 1) {
    for (int64_t i = 0; i < count; ++i) best[i] = x[i] > best[i] ? x[i] : best[i];
  } else {
    for (int64_t i = 0; i < count; ++i) best[i] = x[i * stride] > best[i] ? x[i * stride] : best[i];
  }
}

// kMax: maxima, in the input's type; else sums, as int32. First down the columns, then along the line.
template <bool kMax>
class Pool : public Kernel {
 public:
  explicit Pool(const Node& node)
      : kernel_(node.integers("kernel_shape")), strides_(node.integers("strides", {})), pads_(node.integers("pads", {})),
        dilations_(kMax ? node.integers("dilations", {}) : Shape()), partial_(kMax && node.integer("ceil_mode", 0) != 0) {}

  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() >= 3, "a pool needs a batch, channels and an extent");
    const Window w = window_of(Shape(x.dims.begin() + 2, x.dims.end()), kernel_, strides_, pads_, dilations_, partial_);
    Shape dims(x.dims.begin(), x.dims.begin() + 2);
    dims.insert(dims.end(), w.out.begin(), w.out.end());
    void* out = call.output(dims, kMax ? x.type : Type::kI32);
    Window column = w;
    column.kernel.back() = 1;
    const std::vector<int64_t> taps = tap_offsets(column), lines = line_offsets(w);
    const int64_t plane = product(w.in), results = product(w.out), width = w.out.back(), span = w.padded.back();
    const int64_t stride = w.strides.back(), dilation = w.dilations.back();
    const double cost = static_cast<double>(results * w.taps + plane) / 4.0;
    with_integers(x, [&](const auto* from) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
      using Sum = std::conditional_t<kMax, T, int32_t>;
      constexpr Sum fill = kMax ? std::numeric_limits<Sum>::min() : Sum{0};
      call.parallel(dims[0] * dims[1], cost, [&](int64_t begin, int64_t end) {
        std::vector<Sum> padded(static_cast<size_t>(product(w.padded))), row(static_cast<size_t>(span));
        for (int64_t which = begin; which < end; ++which) {
          pad_plane(w, from + which * plane, fill, padded.data(), [](T v) { return static_cast<Sum>(v); });
          for (size_t line = 0; line < lines.size(); ++line) {
            Sum* to = static_cast<Sum*>(out) + which * results + static_cast<int64_t>(line) * width;
            std::fill(row.begin(), row.end(), fill);
            std::fill(to, to + width, fill);
            for (int64_t tap : taps) join(padded.data() + lines[line] + tap, 1, span, row.data());
            for (int64_t k = 0; k < w.kernel.back(); ++k) join(row.data() + k * dilation, stride, width, to);
          }
        }
      });
    });
  }

 private:
  template <class T>
  static void join(const T* x, int64_t stride, int64_t count, T* sums) {
    if constexpr (kMax) {
      raise(x, stride, count, sums);
    } else {
      kernels().gather_add(x, static_cast<int>(stride), count, sums);
    }
  }

  Shape kernel_, strides_, pads_, dilations_;
  bool partial_;
};

class SpikePad : public Kernel {
 public:
  explicit SpikePad(const Node& node) : pads_(node.integers("pads")) {}
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    const size_t rank = x.dims.size();
    require(pads_.size() == 2 * rank && rank > 0, "one begin and one end are needed for every axis");
    Shape dims;
    for (size_t axis = 0; axis < rank; ++axis) {
      for (int64_t pad : {pads_[axis], pads_[axis + rank]}) {
        require(pad > -kMostExtent && pad < kMostExtent, "the padding is too large");
      }
      dims.push_back(x.dims[axis] + pads_[axis] + pads_[axis + rank]);
      require(dims.back() >= 0, "more is cropped than there is");
    }
    char* out = static_cast<char*>(call.output(dims, x.type));
    const int64_t width = static_cast<int64_t>(width_of(x.type)), size = product(dims);
    if (size == 0) return;
    std::memset(out, 0, static_cast<size_t>(size * width));
    if (x.size() == 0) return;
    const int64_t last = static_cast<int64_t>(rank) - 1;
    const int64_t skip = std::max<int64_t>(0, -pads_[last]), first = std::max<int64_t>(0, pads_[last]);
    const int64_t count = std::min(x.dims[last] - skip, dims[last] - first);
    if (count <= 0) return;
    const int64_t lines = product(x.dims) / x.dims[last];
    for (int64_t line = 0; line < lines; ++line) {
      int64_t rest = line, to = 0, stride = dims[last];
      bool inside = true;
      for (int64_t axis = last; axis-- > 0;) {
        const int64_t at = rest % x.dims[axis] + pads_[axis];
        inside = inside && at >= 0 && at < dims[axis];
        to += at * stride;
        rest /= x.dims[axis];
        stride *= dims[axis];
      }
      if (!inside) continue;
      std::memcpy(out + (to + first) * width, static_cast<const char*>(x.data) + (line * x.dims[last] + skip) * width,
                  static_cast<size_t>(count * width));
    }
  }

 private:
  Shape pads_;
};

}  // namespace

void define_pools(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"MembraneSumPool", {i}, i, make<Pool<false>>});
  list->push_back({"SpikeSumPool", {any}, i, make<Pool<false>>});
  list->push_back({"MembraneMaxPool", {i}, i, make<Pool<true>>});
  list->push_back({"SpikeMaxPool", {any}, any, make<Pool<true>>});
  list->push_back({"SpikePad", {any}, any, make<SpikePad>});
}

}  // namespace snnc
