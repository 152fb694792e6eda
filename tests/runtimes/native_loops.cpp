// Runs every inner loop of the table that the machine gets on numbers from a fixed sequence, and prints a digest of what
// each gives: the digests must not depend on the instruction set.
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels.h"
#include "neuron.h"

namespace {

using namespace snnc;

uint64_t state = 88172645463325252ull;
uint32_t draw() {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return static_cast<uint32_t>(state >> 16);
}
template <class T>
std::vector<T> numbers(size_t count, int64_t low, int64_t high) {
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(low + static_cast<int64_t>(draw() % static_cast<uint64_t>(high - low + 1)));
  return values;
}
template <class T>
void show(const char* name, const std::vector<T>& values) {
  uint64_t digest = 1469598103934665603ull;
  for (const T& value : values) digest = (digest ^ static_cast<uint64_t>(value)) * 1099511628211ull;
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(digest));
}

void fire_all() {
  const Kernels& loops = kernels();
  for (int shape = 0; shape < 10; ++shape) {
    constexpr int kRows = 7, kDepth = 8, kWidth = 255;
    // Large codes fit no table of cells; others have one of up to 64, 256, 512 and 1,024 cells.
    constexpr int kCounts[] = {200, 200, 200, 12, 200, 200, 200, 12, 60, 200}, kUnits[] = {1, 1, 1, 9000, 500, 1, 1, 1, 1, 2};
    const int count = kCounts[shape], unit = kUnits[shape];
    std::vector<int32_t> limits(kRows * kWidth, 2147483647);
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < count; ++j) {
        const int64_t x = j - count / 2;
        // Even steps in single precision; a curve; few limits, and many, that are searched; even steps in single precision
        // but near a border, and in double precision only.
        limits[r * kWidth + j] = static_cast<int32_t>(shape == 0   ? x * (40 + r)
                                                      : shape == 1 ? x * 10000001 + r
                                                      : shape == 2 ? x * x * x / 5 + r * x
                                                      : shape == 5 || shape > 6 ? (x * 1234567 + r * 77777) / 1000
                                                      : shape == 6 ? x * 1000 + 1000000007 + r * (x % 3)
                                                                   : x * x * x / 3 + r * 3 + x);
      }
    }
    std::vector<int64_t> codes;
    for (int j = 0; j <= count; ++j) codes.push_back(unit * (j - count / 2));
    const FireTable table(Tensor{Type::kI32, {kRows, kWidth}, limits.data()}, codes, kDepth);
    constexpr int64_t kPositions = 85;
    std::vector<int32_t> rows;
    for (int i = 0; i < kPositions; ++i) rows.push_back(i * (i + 3) % kRows);
    FireTable::Positions places;
    table.place(rows.data(), kPositions, &places);
    std::vector<int32_t> v = numbers<int32_t>(static_cast<size_t>(9 * kPositions), -200000, 200000);
    for (size_t i = 0; i < v.size(); i += 2) v[i] = limits[draw() % kRows * kWidth + draw() % static_cast<uint32_t>(count)] - static_cast<int32_t>(i / 2 % 2);
    for (int how = 0; how < 3; ++how) {
      FireLine line = table.line(places, 0, how != 0);
      line.by_row = how == 2;
      std::vector<int8_t> narrow(v.size());
      std::vector<int16_t> middle(v.size());
      std::vector<int32_t> wide(v.size());
      loops.fire8(line, v.data(), kPositions, 9, kPositions, narrow.data(), kPositions);
      loops.fire16(line, v.data(), kPositions, 9, kPositions, middle.data(), kPositions);
      loops.fire32(line, v.data(), kPositions, 9, kPositions, wide.data(), kPositions);
      const std::string name = "fire " + std::to_string(shape) + " mode " + std::to_string(table.mode()) + " " + std::to_string(how);
      show(name.c_str(), narrow);
      show(name.c_str(), middle);
      show(name.c_str(), wide);
    }
  }
}

void multiply_all() {
  const Kernels& loops = kernels();
  for (int rows : {1, 2, 5, 64}) {
    for (int width : {16, 48, 64}) {
      const int64_t depth = 38;
      const auto a = numbers<int16_t>(static_cast<size_t>(rows * depth), -32768, 32767);
      const auto b = numbers<int16_t>(static_cast<size_t>(depth * width), -300, 300);
      const auto start = numbers<int32_t>(64, -1000, 1000);
      std::vector<int32_t> c(static_cast<size_t>(rows) * 64);
      loops.product16(a.data(), depth, b.data(), depth, rows, width, start.data(), c.data(), 64);
      show("product16", c);
    }
  }
}

void convolve_all() {
  const Kernels& loops = kernels();
  const auto x = numbers<int16_t>(4000, -3000, 3000);
  for (int taps : {1, 4, 9}) {
    for (int stride : {1, 2}) {
      std::vector<const int16_t*> at;
      for (int t = 0; t < taps; ++t) at.push_back(x.data() + 11 * t);
      const auto weights = numbers<int32_t>(static_cast<size_t>(taps), -128, 127);
      std::vector<int32_t> out(301);
      loops.weigh(at.data(), weights.data(), taps, stride, 301, out.data());
      show("weigh", out);
      std::vector<const uint8_t*> codes;
      std::vector<const int8_t*> signed_codes;
      for (const int16_t* line : at) {
        codes.push_back(reinterpret_cast<const uint8_t*>(line));
        signed_codes.push_back(reinterpret_cast<const int8_t*>(line));
      }
      loops.weigh_u8(codes.data(), weights.data(), taps, stride, 301, out.data());
      show("weigh_u8", out);
      loops.weigh_i8(signed_codes.data(), weights.data(), taps, stride, 301, out.data());
      show("weigh_i8", out);
    }
  }
  for (int shift : {-1, 0, 3, 31, 40}) {
    const int64_t rows = 5, count = 43;
    const auto n = numbers<int32_t>(25, -900, 900);
    auto v = numbers<int32_t>(static_cast<size_t>(rows * count), -100000, 100000);
    const auto other = numbers<int32_t>(static_cast<size_t>(rows * count), -1000, 1000);
    for (const int32_t* more : {static_cast<const int32_t*>(nullptr), other.data()}) {
      loops.finish({n.data(), n.data() + 5, n.data() + 10, n.data() + 15, n.data() + 20, shift, more, count}, v.data(), count, rows, count);
      show("finish", v);
    }
    loops.forward(v.data(), v.data() + 3, 37, rows, count);
    show("forward", v);
  }
  std::vector<int32_t> sums(90);
  loops.gather_add(numbers<int32_t>(400, -5, 5).data(), 3, 90, sums.data());
  show("gather_add", sums);
  const auto one = numbers<int32_t>(77, -2147483647, 2147483647), two = numbers<int32_t>(77, -9, 9);
  const int32_t* parts[] = {one.data(), two.data()};
  const int shifts[] = {0, 24};
  std::vector<int64_t> joined(77);
  loops.gather_parts(parts, shifts, 2, 77, joined.data());
  show("gather_parts", joined);
}

void move_all() {
  const Kernels& loops = kernels();
  const auto words = numbers<int16_t>(8 * 64, -254, 254);
  std::vector<int8_t> low(512), high(512);
  std::vector<unsigned char> live(8);
  loops.split16(words.data(), 500, low.data(), high.data(), live.data());
  show("split16", low), show("split16", high), show("split16", live);
  show("largest16", std::vector<int>{loops.largest16(words.data(), 501)});
  std::vector<const int16_t*> lines;
  std::vector<const uint8_t*> bytes;
  for (int k = 0; k < 8; ++k) lines.push_back(words.data() + k * 64), bytes.push_back(reinterpret_cast<const uint8_t*>(words.data() + k * 64));
  std::vector<int16_t> pairs(8 * 48);
  std::vector<uint8_t> quads(8 * 48), flipped(500);
  loops.pairs16(lines.data(), 8, 48, pairs.data());
  loops.quads8(bytes.data(), 8, 48, quads.data());
  for (int width : {16, 32, 64}) {
    std::vector<uint8_t> panel(static_cast<size_t>(8 * width));
    loops.quads8(bytes.data(), 8, width, panel.data());
    show("quads8", panel);
  }
  for (int width : {1, 14, 63, 64, 100}) {
    for (int left : {0, 1, 70}) {
      const int pitch = left + width + left / 2;
      std::vector<uint8_t> plane(static_cast<size_t>(3 * pitch));
      loops.margins8(bytes[0], width, 3, left, pitch, 7, 128, plane.data());
      show("margins8", plane);
    }
  }
  loops.flip8(bytes[0], 500, flipped.data());
  show("pairs16", pairs), show("quads8", quads), show("flip8", flipped);
  std::vector<int16_t> wide(500);
  loops.widen_u8(bytes[0], 500, wide.data()), show("widen_u8", wide);
  loops.widen_i8(low.data(), 500, wide.data()), show("widen_i8", wide);
}

void add_all() {
  const Kernels& loops = kernels();
  const auto a = numbers<int32_t>(131, -2147483647, 2147483647), b = numbers<int32_t>(131, -70000, 70000);
  const auto w = numbers<int64_t>(131, -(int64_t{1} << 50), int64_t{1} << 50);
  std::vector<int32_t> out(131);
  for (int step : {0, 1}) {
    loops.add(a.data(), b.data(), step, 131, out.data()), show("add", out);
    loops.multiply(a.data(), b.data(), step, 131, out.data()), show("multiply", out);
  }
  for (int shift : {0, 1, 17, 31, 33}) {
    loops.round32(a.data(), shift, 131, out.data()), show("round32", out);
    loops.round64(w.data(), shift, 131, out.data()), show("round64", out);
  }
  loops.quotient32(b.data(), 4096.0, 77.0, 131, out.data()), show("quotient32", out);
  loops.quotient64(w.data(), 1.0, 12345678.0, 131, out.data()), show("quotient64", out);
  show("ends", std::vector<int32_t>{loops.largest(a.data(), 131), loops.smallest(a.data(), 131)});
  int64_t sum = 0, squares = 0;
  loops.sums(b.data(), 131, &sum, &squares);
  show("sums", std::vector<int64_t>{sum, squares});
  std::vector<int64_t> potentials(131);
  loops.norm_potential(b.data(), std::vector<int32_t>(131, -1).data(), 384, 99, 131, potentials.data());
  show("norm_potential", potentials);
}

}  // namespace

int main() {
  fire_all();
  multiply_all();
  convolve_all();
  move_all();
  add_all();
}
