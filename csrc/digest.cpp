#include "digest.h"

#include <cassert>

#include "digest_kernel.h"

namespace sucrose {

namespace {

const DigestKernel &choose_kernel() noexcept {
#ifdef SUCROSE_DIGEST_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        return avx512::digest_kernel;
    }
    if (__builtin_cpu_supports("avx2")) {
        return avx2::digest_kernel;
    }
#endif
    return baseline::digest_kernel;
}

const DigestKernel &kernel() noexcept {
    static const DigestKernel &chosen = choose_kernel();
    return chosen;
}

} // namespace

Digester::Digester() noexcept {
    assert(kernel().state_nbytes <= state_.size());
    kernel().reset(state_.data());
}

void Digester::update(std::span<const std::byte> data) noexcept {
    kernel().update(state_.data(), data.data(), data.size());
}

Digest Digester::finish() const noexcept {
    Digest result;
    kernel().finish(state_.data(), result.data());
    return result;
}

Digest digest(std::span<const std::byte> data) noexcept {
    Digester digester;
    digester.update(data);
    return digester.finish();
}

std::string to_hex(const Digest &digest) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    hex.reserve(2 * digest.size());
    for (const std::byte b : digest) {
        hex.push_back(digits[std::to_integer<std::size_t>(b >> 4)]);
        hex.push_back(digits[std::to_integer<std::size_t>(b & std::byte{15})]);
    }
    return hex;
}

void stream_copy(std::byte *destination, const std::byte *source, std::size_t nbytes) noexcept {
    kernel().stream_copy(destination, source, nbytes);
}

std::string_view digest_kernel_name() noexcept {
    return kernel().name;
}

} // namespace sucrose
