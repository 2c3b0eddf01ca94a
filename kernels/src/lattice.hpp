// The permutohedral lattice (Adams, Baek, Davis 2010).
//
// A pixel's guide lies in a simplex of d + 1 lattice points; its value is shared among them by barycentric weights (splat), the
// lattice is blurred with [1/2, 1, 1/2] along each of d + 1 directions, and the pixel reads the same points back (slice). The
// blur is done in the two orders of the directions and added up, so that the whole is a symmetric matrix. Its scale is the caller's.
//
// A lattice point is named by hash . key (mod 2^64): linear, so that a neighbour's name is the point's plus a constant, and no
// key is stored. The numbers in `hash` are random: two points share a name with probability 2^-62 or so.
//
// Names are dealt out by their highest bits to SHARDS tables that threads fill without meeting; each point then knows its pixels
// in order, sums them itself, and nothing depends on the number of threads.
#pragma once
#include "dense.hpp"
#include "lattice_points.hpp"
#include "simd.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ARCH {
namespace {

constexpr int FLUSH = 64;  // so many summands between two roundings to the running sum

// Channels go in vectors of at most 32 bytes: with longer ones more of the last vector would be padding.
constexpr int WIDE = BYTES < 32 ? BYTES : 32;
template <class T> constexpr int CHANNELS = WIDE / int(sizeof(T));
template <class T> struct row_vector { typedef T type __attribute__((vector_size(WIDE))); };
template <class T> using row = typename row_vector<T>::type;
template <class T> inline row<T> read(const T* p) { row<T> v; std::memcpy(&v, p, WIDE); return v; }
template <class T> inline void write(T* p, row<T> v) { std::memcpy(p, &v, WIDE); }

template <class T> void Lattice<T>::splat(int threads) {
    constexpr int L = CHANNELS<T>;
    forth.resize(size_t(points) * padded);
    back.resize(size_t(points) * padded);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
    for (int64_t v = 0; v < points; ++v) {
        T* to = forth.at(v * padded);
        std::fill_n(to, padded, T(0));
        const int64_t end = first_pixel[v] + many[v];
        for (int64_t k = first_pixel[v]; k < end; k += FLUSH) {
            const int64_t stop = std::min(end, k + FLUSH);
            for (int64_t c = 0; c < padded; c += 4 * L) {
                const int vectors = int(std::min<int64_t>(4, (padded - c) / L));
                row<T> sum[4] = {};
                for (int64_t e = k; e < stop; ++e) {
                    const T* own = value.at(pixel[e] * padded + c);
                    for (int n = 0; n < vectors; ++n) sum[n] += weight[e] * read(own + n * L);
                }
                for (int n = 0; n < vectors; ++n) write(to + c + n * L, read(to + c + n * L) + sum[n]);
            }
        }
        std::copy_n(to, padded, back.at(v * padded));
    }
}

// Along one direction the points form chains. A chain is blurred in place, from its start; a point that stands alone is left alone.
template <class T> void Lattice<T>::blur_along(int64_t k, T* z) {
    constexpr int L = CHANNELS<T>;
    const int32_t* pairs = beside.at(size_t(k) * points * 2);
#pragma omp for schedule(dynamic, 512)
    for (int64_t v = 0; v < points; ++v) {
        if (pairs[2 * v + 1] < points || pairs[2 * v] >= points) continue;
        for (int64_t c = 0; c < padded; c += 4 * L) {
            const int vectors = int(std::min<int64_t>(4, (padded - c) / L));
            row<T> before[4] = {}, own[4] = {}, after[4] = {};
            for (int n = 0; n < vectors; ++n) own[n] = read(z + v * padded + c + n * L);
            for (int64_t at = v; at < points;) {
                const int64_t next = pairs[2 * at];
                for (int n = 0; n < vectors; ++n) {
                    after[n] = next < points ? read(z + next * padded + c + n * L) : row<T>{};
                    write(z + at * padded + c + n * L, own[n] + T(0.5) * (before[n] + after[n]));
                    before[n] = own[n], own[n] = after[n];
                }
                at = next;
            }
        }
    }
}

// The directions in order on one copy, in reverse order on the other; their sum in the first.
template <class T> void Lattice<T>::blur(int threads) {
#pragma omp parallel num_threads(threads)
    {
        for (int64_t k = 0; k < corners; ++k) {
            blur_along(k, forth.at(0));
            blur_along(d - k, back.at(0));
        }
#pragma omp for schedule(static)
        for (int64_t v = 0; v < points; ++v)
            for (int64_t c = v * padded; c < (v + 1) * padded; ++c) forth[c] += back[c];
    }
}

template <class T> void Lattice<T>::slice(T* out, int threads) {
    constexpr int L = CHANNELS<T>, GROUP = 16;
#pragma omp parallel num_threads(threads)
    {
        std::vector<T> rows(size_t(GROUP) * padded);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < pixels; start += GROUP) {
            const int64_t count = std::min<int64_t>(GROUP, pixels - start);
            std::fill(rows.begin(), rows.end(), T(0));
            for (int64_t i = 0; i < count; ++i) {
                if (!present[start + i]) continue;
                const int32_t* points_ = corner.at((start + i) * corners);
                const T* shares = share.at((start + i) * corners);
                for (int64_t c = 0; c < padded; c += 4 * L) {
                    const int vectors = int(std::min<int64_t>(4, (padded - c) / L));
                    row<T> sum[4] = {};
                    for (int64_t r = 0; r < corners; ++r) {
                        const T* z = forth.at(int64_t(points_[r]) * padded + c);
                        for (int n = 0; n < vectors; ++n) sum[n] += shares[r] * read(z + n * L);
                    }
                    for (int n = 0; n < vectors; ++n) write(rows.data() + i * padded + c + n * L, sum[n]);
                }
            }
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t i = 0; i < count; ++i) out[c * pixels + start + i] = rows[i * padded + c];
        }
    }
}

template <class T> void lattice(const LatticeShape& s, const LatticeArrays<T>& arrays) {
    constexpr int L = CHANNELS<T>;
    Lattice<T> net;
    net.d = s.guides, net.corners = s.guides + 1, net.pixels = s.pixels, net.channels = s.channels;
    net.padded = (s.channels + L - 1) / L * L;
    net.hash = arrays.hash;
    net.name.resize(size_t(s.pixels) * net.corners);
    for (auto* a : {&net.from, &net.corner, &net.local}) a->resize(size_t(s.pixels) * net.corners);
    net.share.resize(size_t(s.pixels) * net.corners);
    net.dealt.resize(size_t(s.pixels) * net.corners);
    net.dealt_share.resize(size_t(s.pixels) * net.corners);
    net.first.resize(size_t(s.pixels) * net.corners);
    net.present.resize(s.pixels);
    net.value.resize(size_t(s.pixels) * net.padded);
    for (int64_t image = 0; image < s.images; ++image) {
        const T* values = arrays.values + image * s.channels * s.pixels;
#pragma omp parallel num_threads(s.threads)
        {
            std::vector<double> scratch;
#pragma omp for schedule(static)
            for (int64_t first = 0; first < s.pixels; first += BLOCK) {
                net.place(arrays, image, first, scratch);
                for (int64_t c = 0; c < s.channels; ++c)
                    for (int64_t i = first; i < std::min(s.pixels, first + BLOCK); ++i)
                        net.value[i * net.padded + c] = values[c * s.pixels + i];
            }
        }
        net.deal(s.threads);
        net.find_points(s.threads);
        net.splat(s.threads);
        net.blur(s.threads);
        net.slice(arrays.out + image * s.channels * s.pixels, s.threads);
    }
}

}  // namespace
}  // namespace ARCH
