// Files of frames whose bytes lie on devices, on the fake driver.
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "fake_cuda_program.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using fake_cuda_tests::number;
using fake_cuda_tests::Program;
using sucrose::chunk_nbytes;
using sucrose::ChunkTable;
using sucrose::Encoding;
using sucrose::Engine;
using sucrose::ExtentList;
using sucrose::ReadJob;
using sucrose::Staging;
using sucrose::WriteJob;

constexpr std::size_t device_nbytes = std::size_t{2} << 30; // with room for staging

// Stretches of host and of device memory in turns, about a chunk each.
class Turns {
public:
    Turns(const Program &program, std::size_t count) : fake_(program.fake) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t nbytes = chunk_nbytes + 1000 * i;
            std::vector<std::byte> bytes = random_bytes(nbytes);
            for (std::size_t at = 0; at < nbytes; at += 2) {
                bytes[at] = std::byte{0x3F};
            }
            if (i % 3 == 1) {
                host_.push_back(std::make_unique<std::vector<std::byte>>(bytes));
                extents_.append(extents_.end(), nbytes, address(*host_.back()));
            } else {
                const auto tensor = program.allocate(nbytes);
                std::memcpy(fake_.shadow_of(tensor), bytes.data(), nbytes);
                extents_.append(extents_.end(), nbytes, number(tensor));
                extents_.set_device(i, program.device);
            }
            all_.insert(all_.end(), bytes.begin(), bytes.end());
        }
    }
    const ExtentList &extents() const { return extents_; }
    const std::vector<std::byte> &bytes() const { return all_; }
    void fill(int value) {
        for (const sucrose::Extent &extent : extents_.all()) {
            std::memset(memory(extent), value, extent.nbytes);
        }
    }
    std::vector<std::byte> now() const {
        std::vector<std::byte> bytes(extents_.end());
        for (const sucrose::Extent &extent : extents_.all()) {
            std::memcpy(bytes.data() + extent.offset, memory(extent), extent.nbytes);
        }
        return bytes;
    }

private:
    std::byte *memory(const sucrose::Extent &extent) const {
        return extent.on_host() ? extent.host() : fake_.shadow_of(extent.on_device());
    }

    const FakeCuda &fake_;
    ExtentList extents_;
    std::vector<std::unique_ptr<std::vector<std::byte>>> host_;
    std::vector<std::byte> all_;
};

} // namespace

TEST_CASE("encoded files come from devices and go back, staged anywhere, with one slot or a few") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    int count = 0;
    for (const std::size_t slots : {1, 3}) {
        for (const Staging staging : {Staging::none, Staging::host, Staging::device}) {
            CAPTURE(slots);
            CAPTURE(static_cast<int>(staging));
            Turns state(program, 9);
            const std::vector<std::byte> before = state.bytes();
            const std::size_t chunks = (before.size() + chunk_nbytes - 1) / chunk_nbytes;
            Engine engine(
                {.slot_count = slots, .worker_count = 4, .cuda_driver = FAKE_CUDA_LIBRARY});
            WriteJob::Options how{.durable = false, .staging = staging};
            how.staging_nbytes = slots * chunk_nbytes; // fewer slots than chunks that need one
            how.encoding = Encoding{.itemsizes = std::vector<std::uint8_t>(chunks, 2)};
            const std::string path = folder.file(std::to_string(count++));
            auto write = engine.write(path, state.extents(), {}, how);
            if (staging != Staging::none) {
                while (!write->wait_staged(100ms)) {
                }
            } else {
                wait(*write);
            }
            state.fill(0x55);
            wait(*write);
            ReadJob::Options read;
            read.file_nbytes = before.size();
            read.digests = write->digests();
            read.stored = ChunkTable(write->encoded()->packer().sizes(),
                                     write->encoded()->itemsizes(), before.size());
            CHECK(read.stored->stored_nbytes() < before.size() * 6 / 10);
            auto job = engine.read(path, state.extents(), {}, read);
            wait(*job);
            CHECK(job->corrupt().empty());
            CHECK(state.now() == before);
        }
    }
}
