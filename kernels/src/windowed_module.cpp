// Python face of the windowed energy: torch tensors come in through DLPack, gradients are written into tensors given.
#include "arch.hpp"
#include "windowed.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cmath>
#include <optional>

namespace nb = nanobind;

#define DECLARE(arch)                                                               \
    namespace arch {                                                                \
    double windowed32(const WindowedShape&, const WindowedArrays<float>&);          \
    double windowed64(const WindowedShape&, const WindowedArrays<double>&);         \
    }
DECLARE(baseline)
#if defined(HAS_avx512)
DECLARE(avx2)
DECLARE(avx512)
#endif

namespace {

template <class T> using Maps = nb::ndarray<T, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
template <class T> using Plane = nb::ndarray<T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

template <class T> T* pointer(std::optional<Maps<T>>& array) { return array ? array->data() : nullptr; }

template <class T, class F>
double energy(F run, Maps<const T> probs, Maps<const T> guide, std::optional<Plane<const T>> source,
              std::optional<Plane<const T>> destination, std::optional<Maps<T>> grad_probs, std::optional<Maps<T>> grad_guide,
              int radius, int dilation, double sigma_px, int relaxation, int threads) {
    WindowedShape shape{int64_t(probs.shape(0)), int64_t(probs.shape(1)), int64_t(guide.shape(1)), int64_t(probs.shape(2)),
                        int64_t(probs.shape(3)), radius, dilation, sigma_px, relaxation, threads < 1 ? 1 : threads};
    const auto fits = [&](const auto& x, int64_t channels) {
        return int64_t(x.shape(0)) == shape.images && int64_t(x.shape(1)) == channels && int64_t(x.shape(2)) == shape.height &&
               int64_t(x.shape(3)) == shape.width;
    };
    const auto covers = [&](const auto& x) {
        return int64_t(x.shape(0)) == shape.images && int64_t(x.shape(1)) == shape.height && int64_t(x.shape(2)) == shape.width;
    };
    if (!fits(guide, shape.guides) || (grad_probs && !fits(*grad_probs, shape.classes)) ||
        (grad_guide && !fits(*grad_guide, shape.guides)) || source.has_value() != destination.has_value() ||
        (source && (!covers(*source) || !covers(*destination))))
        throw nb::value_error("windowed: the arrays differ in shape");
    if (radius < 1 || dilation < 1 || !(sigma_px > 0) || relaxation < 0 || relaxation > 3)
        throw nb::value_error("windowed: a number is out of range");
    WindowedArrays<T> arrays{probs.data(), guide.data(), source ? source->data() : nullptr,
                             destination ? destination->data() : nullptr, pointer<T>(grad_probs), pointer<T>(grad_guide)};
    nb::gil_scoped_release release;
    return run(shape, arrays);
}

template <class T, class F> void define(nb::module_& m, F run) {
    m.def(
        "energy",
        [run](Maps<const T> probs, Maps<const T> guide, std::optional<Plane<const T>> source,
              std::optional<Plane<const T>> destination, std::optional<Maps<T>> grad_probs, std::optional<Maps<T>> grad_guide,
              int radius, int dilation, double sigma_px, int relaxation, int threads) {
            return energy<T>(run, probs, guide, source, destination, grad_probs, grad_guide, radius, dilation, sigma_px,
                             relaxation, threads);
        },
        nb::arg("probs").noconvert(), nb::arg("guide").noconvert(), nb::arg("source").noconvert().none(),
        nb::arg("destination").noconvert().none(), nb::arg("grad_probs").noconvert().none(),
        nb::arg("grad_guide").noconvert().none(), nb::arg("radius"), nb::arg("dilation"), nb::arg("sigma_px"),
        nb::arg("relaxation"), nb::arg("threads"));
}

}  // namespace

NB_MODULE(_windowed, m) {
    m.doc() = "Windowed Gaussian energy; scribbleseg.ops.windowed has the definition.";
    define<float>(m, PICK(windowed32));
    define<double>(m, PICK(windowed64));
}
