// SHA-256 (FIPS 180-4), by the processor's instructions for it where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sucrose {

// One running hash. Trivially copyable; not thread-safe.
class Sha256 {
public:
    static constexpr std::size_t block_nbytes = 64;
    static constexpr std::size_t hash_nbytes = 32;

    void update(std::span<const std::byte> data) noexcept;
    // Leaves the running hash as it is, so that more may follow.
    std::array<std::byte, hash_nbytes> finish() const noexcept;

private:
    // FIPS 180-4, 5.3.3: of the square roots of the first eight primes, the first 32 bits behind
    // the point.
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint64_t nbytes_ = 0;
    std::array<std::byte, block_nbytes> rest_; // the first nbytes_ % block_nbytes are in use
};

// Which code was chosen for this processor: "instructions" or "portable".
std::string_view sha256_kernel_name() noexcept;

} // namespace sucrose
