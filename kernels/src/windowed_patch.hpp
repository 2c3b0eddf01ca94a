// What the windowed energy does over the neighbours of a patch of pixels: list them, compare with them, sum over them.
#pragma once
#include "simd.hpp"
#include "windowed.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace ARCH {
namespace {

// One image's planes with a margin of a vector on the left and on the right of every row.
constexpr int SKEW = 5;
template <class T> struct Padded {
    int64_t width, row, plane;
    std::unique_ptr<vec<T>[]> data;  // of vectors, so that it is aligned like one
    Padded(int64_t planes, int64_t height, int64_t width)
        : width(width), row((width + 3 * LANES<T> - 1) / LANES<T> * LANES<T>), plane(skewed(row * height)),
          data(new vec<T>[plane * planes / LANES<T>]) {}
    // Planes a multiple of 4 KiB apart would fall on the same few lines of the first cache.
    static int64_t skewed(int64_t n) {
        constexpr int64_t LINE = 64 / sizeof(T), PAGE = 64 * LINE;
        const int64_t lines = (n + LINE - 1) / LINE * LINE;
        return (lines + PAGE - 1) / PAGE * PAGE + SKEW * LINE;
    }
    T* at(int64_t plane_, int64_t y) { return reinterpret_cast<T*>(data.get()) + plane_ * plane + y * row + LANES<T>; }
    void set(int64_t plane_, int64_t y, const T* from) {  // null for ones
        T* to = at(plane_, y);
        if (from) std::copy(from, from + width, to);
        else std::fill(to, to + width, T(1));
        std::fill(to - LANES<T>, to, T(0));
        std::fill(to + width, to + row - LANES<T>, T(0));
    }
};

constexpr int TALLEST = 4;

// A patch is one vector of pixels in each of ROWS rows that are `dilation` apart: they share most of their neighbours, so that
// what is loaded of a neighbour serves all of them. `own` is where a row's pixels stand, from the first row's.
template <class T> struct Patch {
    std::vector<int64_t> place;                        // where each neighbour stands, from the first row's pixels
    std::vector<T> near[TALLEST];                      // its part of the exponent, for each row
    int first[TALLEST], last[TALLEST];                 // the neighbours that are in each row's window
    std::vector<vec<T>> pull[TALLEST], push[TALLEST];  // w dphi/du and w phi of each neighbour
    std::vector<vec<T>> grad_p[TALLEST], grad_g[TALLEST];
    int64_t own[TALLEST];
    int count;
    Patch(const WindowedShape& s) {
        const size_t most = size_t(2 * s.radius + TALLEST) * (2 * s.radius + 1);
        place.resize(most);
        for (int r = 0; r < TALLEST; ++r) {
            near[r].resize(most), pull[r].resize(most), push[r].resize(most);
            grad_p[r].resize(s.classes), grad_g[r].resize(s.guides);
        }
    }
    int64_t listed = -1;  // the first row of the list, where all columns of the window are in it
    // Lists the neighbours that lie in the image, at least for one lane. Most patches of a row share one list.
    void look_around(const WindowedShape& s, int rows, int64_t row_length, int64_t y, int64_t x) {
        const double scale = -0.5 * s.dilation * s.dilation / (s.sigma_px * s.sigma_px);
        const T never = T(-1e30);
        const int64_t reach = int64_t(s.radius) * s.dilation;
        const bool whole = x - reach + LANES<T> > 0 && x + reach < s.width;
        if (whole && listed == y) return;
        listed = whole ? y : -1;
        count = 0;
        for (int r = 0; r < rows; ++r) first[r] = -1, own[r] = int64_t(r) * s.dilation * row_length;
        for (int dy = -s.radius; dy < s.radius + rows; ++dy) {
            const int64_t row = y + int64_t(dy) * s.dilation;
            if (row < 0 || row >= s.height) continue;
            for (int r = 0; r < rows; ++r) {
                if (dy - r >= -s.radius && first[r] < 0) first[r] = count;
                if (dy - r <= s.radius) last[r] = count;
            }
            for (int dx = -s.radius; dx <= s.radius; ++dx) {
                const int64_t column = x + int64_t(dx) * s.dilation;
                if (column + LANES<T> <= 0 || column >= s.width) continue;
                place[count] = (int64_t(dy) * row_length + dx) * s.dilation;
                for (int r = 0; r < rows; ++r)
                    near[r][count] = dx == 0 && dy == r ? never : T(scale * ((dy - r) * (dy - r) + dx * dx));
                ++count;
            }
            for (int r = 0; r < rows; ++r)
                if (dy - r <= s.radius) last[r] = count;
        }
    }
};

// Gradients of a patch's rows, until the rows are complete. Maps of a power of two have planes that share the same few cache
// lines: written there a vector at a time, a line would leave the cache half full and come back for the rest.
template <class T> struct Lines {
    int64_t channels, length;  // of a row, in vectors
    std::vector<vec<T>> data;
    Lines(int64_t channels, int64_t width)
        : channels(channels), length((width + LANES<T> - 1) / LANES<T>), data(TALLEST * channels * length) {}
    void put(int r, int64_t x, const std::vector<vec<T>>& from) {
        for (int64_t c = 0; c < channels; ++c) data[(r * channels + c) * length + x / LANES<T>] = from[c];
    }
    void write(int r, T* to, int64_t plane, int64_t width) const {
        for (int64_t c = 0; c < channels; ++c) std::memcpy(to + c * plane, &data[(r * channels + c) * length], width * sizeof(T));
    }
};

// Calls f(rows, row, from, to) for the stretches of neighbours that lie in the windows of `rows` rows from `row` on (and for a
// few that lie in only one of two). A patch of four reaches three rows further than one of its windows does.
template <int ROWS, class T, class F> inline void each_stretch(const Patch<T>& patch, F f) {
    if constexpr (ROWS == 4) {
        f(std::integral_constant<int, 2>(), 0, 0, patch.first[2]);
        f(std::integral_constant<int, 4>(), 0, patch.first[2], patch.last[1]);
        f(std::integral_constant<int, 2>(), 2, patch.last[1], patch.count);
    } else {
        f(std::integral_constant<int, ROWS>(), 0, 0, patch.count);
    }
}

// As many columns as there are registers for sums: AVX2 has just enough for twelve, where products are added in one instruction
// and no difference needs a place.
template <int ROWS, bool DOT = true> constexpr int BLOCK = (BYTES == 64 ? 24 : BYTES == 32 && DOT ? 12 : 8) / ROWS;

// Calls f(r, k, row(r), column(k)) for all r and k. Every operand is loaded once; the fewer ones wait in registers, so that with
// ROWS x COUNT sums at work, one more register serves all of the others.
template <int ROWS, int COUNT, class A, class B, class F> inline void cross(A row, B column, F f) {
    if constexpr (ROWS <= COUNT) {
        decltype(row(0)) held[ROWS];
        for (int r = 0; r < ROWS; ++r) held[r] = row(r);
        for (int k = 0; k < COUNT; ++k) {
            const auto v = column(k);
            for (int r = 0; r < ROWS; ++r) f(r, k, held[r], v);
        }
    } else {
        decltype(column(0)) held[COUNT];
        for (int k = 0; k < COUNT; ++k) held[k] = column(k);
        for (int r = 0; r < ROWS; ++r) {
            const auto v = row(r);
            for (int k = 0; k < COUNT; ++k) f(r, k, v, held[k]);
        }
    }
}

// out[row + r][c] += sum_o weight[row + r][o] in[c] at neighbour o, for COUNT planes at once.
template <class T, int ROWS, int COUNT>
inline void gather(const T* in, int64_t plane, const std::vector<vec<T>>* weight, const int64_t* place, int from, int to,
                   std::vector<vec<T>>* out, int64_t at) {
    vec<T> sum[ROWS][COUNT];
    const T* weights[ROWS];
    for (int r = 0; r < ROWS; ++r) weights[r] = reinterpret_cast<const T*>(weight[r].data());
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COUNT; ++c) sum[r][c] = out[r][at + c];
    for (int o = from; o < to; ++o) {
        const T* there = in + place[o];
        cross<ROWS, COUNT>([&](int r) { return load_once(weights[r] + o * LANES<T>); },
                           [&](int c) { return load_once(there + c * plane); },
                           [&](int r, int c, vec<T> k, vec<T> v) { sum[r][c] += k * v; });
    }
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COUNT; ++c) out[r][at + c] = sum[r][c];
}

template <class T, int ROWS>
inline void gather_all(const T* in, int64_t plane, int64_t count, const std::vector<vec<T>>* weight, const Patch<T>& patch,
                       std::vector<vec<T>>* out) {
    for (int r = 0; r < ROWS; ++r) std::fill(out[r].begin(), out[r].end(), fill<T>(0));
    each_stretch<ROWS>(patch, [&](auto rows, int row, int from, int to) {
        constexpr int N = decltype(rows)::value, MOST = BLOCK<N>;
        const int64_t* place = patch.place.data();
        int64_t c = 0;
        for (; c + MOST <= count; c += MOST) gather<T, N, MOST>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
        for (; c + 3 <= count; c += 3) gather<T, N, 3>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
        for (; c < count; ++c) gather<T, N, 1>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
    });
}

// out[row + r][o] = sum_c (in[c] - in[c] at o)^2, or the dot product of the two, for COUNT neighbours from o on.
template <class T, int ROWS, int COUNT, bool DOT>
inline void compare(const T* in, int64_t plane, int64_t count, const int64_t* own, const int64_t* place, int o,
                    std::vector<vec<T>>* out) {
    vec<T> sum[ROWS][COUNT];
    for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < COUNT; ++k) sum[r][k] = fill<T>(0);
    for (int64_t c = 0; c < count; ++c) {
        const T* here = in + c * plane;
        cross<ROWS, COUNT>([&](int r) { return load_once(here + own[r]); }, [&](int k) { return load_once(here + place[o + k]); },
                           [&](int r, int k, vec<T> mine, vec<T> v) {
                               const vec<T> step = mine - v;
                               sum[r][k] += DOT ? mine * v : step * step;
                           });
    }
    for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < COUNT; ++k) out[r][o + k] = sum[r][k];
}

template <class T, int ROWS, bool DOT>
inline void compare_all(const T* in, int64_t plane, int64_t count, const Patch<T>& patch, std::vector<vec<T>>* out) {
    each_stretch<ROWS>(patch, [&](auto rows, int row, int o, int to) {
        constexpr int N = decltype(rows)::value, MOST = BLOCK<N, DOT>;
        const int64_t *own = patch.own + row, *place = patch.place.data();
        for (; o + MOST <= to; o += MOST) compare<T, N, MOST, DOT>(in, plane, count, own, place, o, out + row);
        for (; o + 3 <= to; o += 3) compare<T, N, 3, DOT>(in, plane, count, own, place, o, out + row);
        for (; o < to; ++o) compare<T, N, 1, DOT>(in, plane, count, own, place, o, out + row);
    });
}

}  // namespace
}  // namespace ARCH
