// NativeMove: reshapes, transposes and slices in a row, as one copy with strides.

#include <cstring>

#include "op.h"

namespace snnc {
namespace {

class Move : public Kernel {
 public:
  explicit Move(const Node& node)
      : shape_(node.integers("shape")), extents_(node.integers("extents")), strides_(node.integers("strides")),
        first_(node.integer("first")), size_(node.integer("size")) {
    require(!extents_.empty() && extents_.size() == strides_.size(), "extents and strides differ in number");
    constexpr int64_t kMost = int64_t{1} << 31;  // no sum or product of these overflows
    require(first_ >= 0 && first_ < kMost && size_ >= 1 && size_ < kMost, "the place or number of elements is out of range");
    int64_t most = first_, count = 1;
    for (size_t axis = 0; axis < extents_.size(); ++axis) {
      require(extents_[axis] >= 1 && extents_[axis] < kMost && strides_[axis] >= 0 && strides_[axis] < kMost,
              "an extent or stride is out of range");
      most += (extents_[axis] - 1) * strides_[axis];
      count *= extents_[axis];
      require(most < kMost && count < kMost, "an extent or stride is out of range");
    }
    for (int64_t extent : shape_) require(extent >= 1 && extent < kMost, "an extent is out of range");
    moved_ = product(extents_);
    require(most < size_ && product(shape_) == moved_, "the elements of a sample do not fit its shape");
  }

  // x: (N, ...), samples of `size` elements, of which the result's begin at `first`.
  void run(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() >= 1 && product(x.dims, 1) == size_, "a sample has another number of elements");
    Shape dims{x.dims[0]};
    dims.insert(dims.end(), shape_.begin(), shape_.end());
    void* out = call.output(dims, x.type);
    switch (width_of(x.type)) {
      case 1:
        return copy(call, x.dims[0], x.as<uint8_t>(), static_cast<uint8_t*>(out));
      case 2:
        return copy(call, x.dims[0], x.as<uint16_t>(), static_cast<uint16_t*>(out));
      case 4:
        return copy(call, x.dims[0], x.as<uint32_t>(), static_cast<uint32_t*>(out));
      default:
        return copy(call, x.dims[0], x.as<uint64_t>(), static_cast<uint64_t*>(out));
    }
  }

 private:
  // Lines of the last two axes are copied at a time.
  template <class T>
  void copy(const Call& call, int64_t samples, const T* from, T* out) const {
    const size_t rank = extents_.size();
    const int64_t inner = extents_[rank - 1], step = strides_[rank - 1];
    const int64_t middle = rank > 1 ? extents_[rank - 2] : 1, pitch = rank > 1 ? strides_[rank - 2] : 0;
    const int64_t block = inner * middle, blocks = moved_ / block;
    call.parallel(samples * blocks, static_cast<double>(block) * 0.7, [&](int64_t begin, int64_t end) {
      for (int64_t which = begin; which < end; ++which) {
        int64_t rest = which % blocks, at = which / blocks * size_ + first_;
        for (size_t axis = rank - 1; axis-- > 1;) {
          at += rest % extents_[axis - 1] * strides_[axis - 1];
          rest /= extents_[axis - 1];
        }
        const T* source = from + at;
        T* to = out + which * block;
        if (step == 1) {
          for (int64_t m = 0; m < middle; ++m) std::memcpy(to + m * inner, source + m * pitch, static_cast<size_t>(inner) * sizeof(T));
        } else if (pitch == 1) {
          // Reads stay on a few lines of memory.
          for (int64_t i = 0; i < inner; ++i) {
            for (int64_t m = 0; m < middle; ++m) to[m * inner + i] = source[i * step + m];
          }
        } else {
          for (int64_t m = 0; m < middle; ++m) {
            for (int64_t i = 0; i < inner; ++i) to[m * inner + i] = source[m * pitch + i * step];
          }
        }
      }
    });
  }

  Shape shape_, extents_, strides_;
  int64_t first_, size_, moved_ = 0;
};

}  // namespace

void define_moves(std::vector<Definition>* list) { list->push_back({"NativeMove", {Type::kUndefined}, Type::kUndefined, make<Move>}); }

}  // namespace snnc
