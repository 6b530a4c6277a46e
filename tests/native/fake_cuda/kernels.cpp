#include "kernels.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

#include "kernel_bodies.h"

namespace fake_cuda {

namespace {

using sucrose::DeviceAddress;
using sucrose::KernelLayout;
using sucrose::KernelPiece;
namespace kernel = sucrose::kernel;

using Run = std::function<void(const Translate &)>;

struct Launch {
    unsigned blocks;
    unsigned threads;

    template <typename Body> void for_each_thread(Body body) const {
        for (unsigned block = 0; block < blocks; ++block) {
            for (unsigned thread = 0; thread < threads; ++thread) {
                body(block, thread);
            }
        }
    }
};

template <typename Item>
std::vector<Item> read_array(const Translate &translate, DeviceAddress address, std::size_t count) {
    std::vector<Item> items(count);
    if (count != 0) {
        const std::size_t nbytes = count * sizeof(Item);
        std::memcpy(items.data(), translate(address, nbytes), nbytes);
    }
    return items;
}

// Element (0, ..., 0) of a strided tensor, all of which must be device memory.
std::byte *translate_tensor(const Translate &translate, std::uint64_t address,
                            const KernelLayout &layout) {
    std::uint64_t below = 0;
    std::uint64_t above = layout.run_nbytes;
    for (std::uint32_t i = 0; i < layout.rank; ++i) {
        const std::int64_t reach = static_cast<std::int64_t>(layout.size[i] - 1) * layout.stride[i];
        (reach < 0 ? below : above) += static_cast<std::uint64_t>(reach < 0 ? -reach : reach);
    }
    return translate(DeviceAddress{address - below}, below + above) + below;
}

template <typename Direction>
void copy_pieces(const Launch &launch, const Translate &translate, DeviceAddress block,
                 DeviceAddress piece_array, DeviceAddress layout_array) {
    const auto pieces = read_array<KernelPiece>(translate, piece_array, launch.blocks);
    std::size_t layout_count = 0;
    for (const KernelPiece &piece : pieces) {
        if (piece.layout != sucrose::no_layout) {
            layout_count = std::max(layout_count, std::size_t{piece.layout} + 1);
        }
    }
    const auto layouts = read_array<KernelLayout>(translate, layout_array, layout_count);
    for (const KernelPiece &piece : pieces) {
        std::byte *const in_block = translate(block + piece.block_offset, piece.nbytes);
        if (piece.layout != sucrose::no_layout) {
            const KernelLayout &layout = layouts[piece.layout];
            std::byte *const tensor = translate_tensor(translate, piece.tensor, layout);
            for (unsigned thread = 0; thread < launch.threads; ++thread) {
                kernel::copy_strided<Direction>(in_block, tensor, piece, layout, thread,
                                                launch.threads);
            }
            continue;
        }
        std::byte *const in_tensor =
            translate(DeviceAddress{piece.tensor} + piece.begin, piece.nbytes);
        constexpr bool gather = std::is_same_v<Direction, kernel::Gather>;
        for (unsigned thread = 0; thread < launch.threads; ++thread) {
            kernel::copy_contiguous(gather ? in_block : in_tensor, gather ? in_tensor : in_block,
                                    piece.nbytes, thread, launch.threads);
        }
    }
}

using Regroup = void(std::byte *target, const std::byte *source, std::uint64_t nbytes,
                     std::uint32_t itemsize, std::uint64_t index, std::uint64_t stride);

template <Regroup *regroup>
void regroup_bytes(const Launch &launch, const Translate &translate, DeviceAddress target_address,
                   DeviceAddress source_address, std::uint64_t nbytes, std::uint32_t itemsize) {
    std::byte *const target = translate(target_address, nbytes);
    const std::byte *const source = translate(source_address, nbytes);
    const std::uint64_t stride = std::uint64_t{launch.blocks} * launch.threads;
    for (std::uint64_t index = 0; index < stride; ++index) {
        regroup(target, source, nbytes, itemsize, index, stride);
    }
}

std::size_t chunk_count(std::uint64_t nbytes) {
    return (nbytes + kernel::fingerprint_chunk_nbytes - 1) / kernel::fingerprint_chunk_nbytes;
}

void fingerprint_begin(const Launch &launch, const Translate &translate, DeviceAddress result_array,
                       std::uint64_t nbytes) {
    const std::uint64_t threads = std::uint64_t{launch.blocks} * launch.threads;
    const std::size_t count = std::min<std::uint64_t>(threads, chunk_count(nbytes));
    std::vector<kernel::FingerprintSums> results;
    for (std::size_t i = 0; i < count; ++i) {
        results.push_back(kernel::fingerprint_begin(
            kernel::chunk_length(nbytes, i * kernel::fingerprint_chunk_nbytes)));
    }
    const std::size_t results_nbytes = count * sizeof results[0];
    std::memcpy(translate(result_array, results_nbytes), results.data(), results_nbytes);
}

void fingerprint(const Launch &launch, const Translate &translate, DeviceAddress result_array,
                 DeviceAddress source_address, std::uint64_t nbytes) {
    const std::byte *const source = translate(source_address, nbytes);
    auto results =
        read_array<kernel::FingerprintSums>(translate, result_array, chunk_count(nbytes));
    launch.for_each_thread([&](unsigned block, unsigned thread) {
        const auto sums = kernel::fingerprint_share(source, nbytes, block, thread, launch.threads);
        auto &result = results[kernel::chunk_of_share(block)];
        result.lane[0] += sums.lane[0];
        result.lane[1] += sums.lane[1];
    });
    const std::size_t results_nbytes = results.size() * sizeof results[0];
    std::memcpy(translate(result_array, results_nbytes), results.data(), results_nbytes);
}

// Copies the parameters that an emulation takes out of cuLaunchKernel's array.
template <typename... Parameters>
Run capture(void (*emulate)(const Launch &, const Translate &, Parameters...), const Launch &launch,
            void **parameters) {
    std::tuple<Parameters...> values;
    std::apply(
        [&](Parameters &...value) {
            ((std::memcpy(&value, *parameters, sizeof value), ++parameters), ...);
        },
        values);
    return [=](const Translate &translate) {
        std::apply([&](Parameters... value) { emulate(launch, translate, value...); }, values);
    };
}

template <auto emulate> Run capture_for(const Launch &launch, void **parameters) {
    return capture(emulate, launch, parameters);
}

struct Kernel {
    std::string_view name;
    Run (*capture)(const Launch &launch, void **parameters);
};

constexpr std::array<Kernel, 6> kernels{{
    {"sucrose_gather", capture_for<&copy_pieces<kernel::Gather>>},
    {"sucrose_scatter", capture_for<&copy_pieces<kernel::Scatter>>},
    {"sucrose_split_bytes", capture_for<&regroup_bytes<&kernel::split_bytes>>},
    {"sucrose_merge_bytes", capture_for<&regroup_bytes<&kernel::merge_bytes>>},
    {"sucrose_fingerprint_begin", capture_for<&fingerprint_begin>},
    {"sucrose_fingerprint", capture_for<&fingerprint>},
}};

const Kernel *find(std::string_view name) {
    const auto *found = std::find_if(kernels.begin(), kernels.end(),
                                     [&](const Kernel &known) { return known.name == name; });
    return found == kernels.end() ? nullptr : found;
}

} // namespace

Run capture_launch(std::string_view name, unsigned grid_x, unsigned block_x, void **parameters) {
    const Kernel *const known = find(name);
    return known == nullptr ? Run() : known->capture({grid_x, block_x}, parameters);
}

bool knows(std::string_view name) {
    return find(name) != nullptr;
}

} // namespace fake_cuda
