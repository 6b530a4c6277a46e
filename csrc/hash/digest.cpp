#include "hash/digest.h"

#include <algorithm>
#include <cassert>

#include "error.h"
#include "hash/digest_kernel.h"

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

DigestKind parse_digest_kind(std::string_view name) {
    if (name == "xxh3-128") {
        return DigestKind::xxh3_128;
    }
    if (name == "sha256-128") {
        return DigestKind::sha256_128;
    }
    throw Error("digest_kind is '" + std::string(name) + "'; expected 'xxh3-128' or 'sha256-128'");
}

Digester::Digester(DigestKind kind) noexcept : kind_(kind) {
    assert(kernel().state_nbytes <= state_.size());
    if (kind_ == DigestKind::xxh3_128) {
        kernel().reset(state_.data());
    }
}

void Digester::update(std::span<const std::byte> data) noexcept {
    if (kind_ == DigestKind::sha256_128) {
        sha256_.update(data);
    } else {
        kernel().update(state_.data(), data.data(), data.size());
    }
}

Digest Digester::finish() const noexcept {
    Digest result;
    if (kind_ == DigestKind::sha256_128) {
        const auto hash = sha256_.finish();
        std::copy_n(hash.begin(), result.size(), result.begin());
    } else {
        kernel().finish(state_.data(), result.data());
    }
    return result;
}

Digest digest(std::span<const std::byte> data, DigestKind kind) noexcept {
    Digester digester(kind);
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
