// Python face of the dense sums and of the lattice: torch tensors come in through DLPack, results are written into tensors given.
#include "arch.hpp"
#include "dense.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cstdint>
#include <limits>
#include <optional>

namespace nb = nanobind;

#define DECLARE(arch)                                                 \
    namespace arch {                                                  \
    void sum32(const SumShape&, const SumArrays<float>&);             \
    void sum64(const SumShape&, const SumArrays<double>&);            \
    void lattice32(const LatticeShape&, const LatticeArrays<float>&); \
    void lattice64(const LatticeShape&, const LatticeArrays<double>&); \
    }
DECLARE(baseline)
#if defined(HAS_avx512)
DECLARE(avx2)
DECLARE(avx512)
#endif

namespace {

template <class T> using Points = nb::ndarray<T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <class T> using Numbers = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T> bool fits(const Points<T>& x, int64_t images, int64_t channels, int64_t points) {
    return int64_t(x.shape(0)) == images && int64_t(x.shape(1)) == channels && int64_t(x.shape(2)) == points;
}

int at_least_one(int threads) { return threads < 1 ? 1 : threads; }

template <class T, class F> void define_sum(nb::module_& m, F run) {
    m.def(
        "gaussian_sum",
        [run](Points<const T> x, Points<const T> y, std::optional<Points<const T>> u, Points<const T> v, Points<T> out, int threads) {
            const SumShape shape{int64_t(x.shape(0)), int64_t(x.shape(1)), int64_t(v.shape(1)), int64_t(x.shape(2)),
                                 int64_t(y.shape(2)), at_least_one(threads)};
            if (!fits(y, shape.images, shape.guides, shape.there) || !fits(v, shape.images, shape.channels, shape.there) ||
                (u && !fits(*u, shape.images, shape.channels, shape.here)) ||
                !fits(out, shape.images, u ? shape.guides : shape.channels, shape.here))
                throw nb::value_error("gaussian_sum: the arrays differ in shape");
            const SumArrays<T> arrays{x.data(), y.data(), u ? u->data() : nullptr, v.data(), out.data()};
            nb::gil_scoped_release release;
            run(shape, arrays);
        },
        nb::arg("x").noconvert(), nb::arg("y").noconvert(), nb::arg("u").noconvert().none(), nb::arg("v").noconvert(),
        nb::arg("out").noconvert(), nb::arg("threads"));
}

template <class T, class F> void define_lattice(nb::module_& m, F run) {
    m.def(
        "lattice",
        [run](Points<const T> guide, Points<const T> values, Points<T> out, Numbers<const double> scale, Numbers<const double> shift,
              Numbers<const int64_t> hash, int threads) {
            const LatticeShape shape{int64_t(guide.shape(0)), int64_t(guide.shape(1)), int64_t(values.shape(1)),
                                     int64_t(guide.shape(2)), at_least_one(threads)};
            const size_t d = guide.shape(1);
            if (!fits(values, shape.images, shape.channels, shape.pixels) || !fits(out, shape.images, shape.channels, shape.pixels) ||
                scale.shape(0) != d || shift.shape(0) != d || hash.shape(0) != d)
                throw nb::value_error("lattice: the arrays differ in shape");
            if (shape.channels < 1 || shape.pixels > std::numeric_limits<int32_t>::max() / (shape.guides + 2))
                throw nb::value_error("lattice: no channel, or too many pixels");
            const LatticeArrays<T> arrays{guide.data(), values.data(), out.data(), scale.data(), shift.data(), hash.data()};
            nb::gil_scoped_release release;
            run(shape, arrays);
        },
        nb::arg("guide").noconvert(), nb::arg("values").noconvert(), nb::arg("out").noconvert(), nb::arg("scale").noconvert(),
        nb::arg("shift").noconvert(), nb::arg("hash").noconvert(), nb::arg("threads"));
}

}  // namespace

NB_MODULE(_dense, m) {
    m.doc() = "Gaussian sums over all pairs and the permutohedral lattice; scribbleseg.ops.dense has the definitions.";
    define_sum<float>(m, PICK(sum32));
    define_sum<double>(m, PICK(sum64));
    define_lattice<float>(m, PICK(lattice32));
    define_lattice<double>(m, PICK(lattice64));
}
