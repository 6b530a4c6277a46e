#include "codec/entropy.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sucrose {

namespace {

// Samples from all over, so that a chunk with two tensors in it is judged by both: enough that the
// estimate is low by less than 0.02 bits.
constexpr std::size_t sample_count = 32;
constexpr std::size_t items_in_sample = 512;

// The low bytes of bfloat16 numbers have 7.96 bits, the high bytes of float16 ones about 6.
constexpr double worthwhile_bits = 7.75;

using Histogram = std::array<std::uint32_t, 256>;

double entropy_bits(const Histogram &histogram, double total) noexcept {
    double bits = 0;
    for (const std::uint32_t count : histogram) {
        if (count != 0) {
            bits += count * std::log2(total / count);
        }
    }
    return bits / total;
}

} // namespace

std::uint32_t compressible_planes(std::span<const std::byte> items, std::size_t itemsize) noexcept {
    const std::size_t count = items.size() / itemsize;
    const std::size_t in_sample = std::min(items_in_sample, std::max<std::size_t>(1, count));
    const std::size_t samples = std::clamp<std::size_t>(count / in_sample, 1, sample_count);
    std::uint32_t planes = 0;
    if (count == 0) {
        return planes;
    }
    for (std::size_t plane = 0; plane < itemsize; ++plane) {
        Histogram histogram{};
        for (std::size_t sample = 0; sample < samples; ++sample) {
            const std::size_t first = (count - in_sample) * sample / samples;
            const std::byte *at = items.data() + first * itemsize + plane;
            for (std::size_t i = 0; i < in_sample; ++i) {
                ++histogram[std::to_integer<std::size_t>(at[i * itemsize])];
            }
        }
        if (entropy_bits(histogram, static_cast<double>(in_sample * samples)) < worthwhile_bits) {
            planes |= 1U << plane;
        }
    }
    return planes;
}

} // namespace sucrose
