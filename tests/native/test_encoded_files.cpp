// Files of frames through the engine.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "error.h"
#include "io/fault.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using sucrose::chunk_nbytes;
using sucrose::ChunkTable;
using sucrose::Digest;
using sucrose::Encoding;
using sucrose::Engine;
using sucrose::EngineOptions;
using sucrose::ReadJob;
using sucrose::Staging;
using sucrose::WriteJob;

// Stretches of noise, of zeros and of small numbers in turns, so that chunks take different times
// and shrink differently.
std::vector<std::byte> mixture(std::size_t nbytes, unsigned seed = 1) {
    std::vector<std::byte> bytes = random_bytes(nbytes);
    std::mt19937 random(seed);
    for (std::size_t at = 0; at < nbytes;) {
        const std::size_t n = std::min<std::size_t>(nbytes - at, 1 + random() % (3 * chunk_nbytes));
        const auto kind = random() % 3;
        for (std::size_t i = at; i < at + n && kind != 0; ++i) {
            bytes[i] = kind == 1 ? std::byte{0} : bytes[i] & std::byte{15};
        }
        at += n;
    }
    return bytes;
}

std::vector<std::uint8_t> filters(std::size_t nbytes, std::uint8_t itemsize) {
    return std::vector<std::uint8_t>((nbytes + chunk_nbytes - 1) / chunk_nbytes, itemsize);
}

WriteJob::Options encoding(std::size_t nbytes, std::uint8_t itemsize, int level = 0) {
    WriteJob::Options options{.durable = false};
    options.encoding = Encoding{.level = level, .itemsizes = filters(nbytes, itemsize)};
    return options;
}

ReadJob::Options reading(const WriteJob &write) {
    ReadJob::Options options;
    options.file_nbytes = write.nbytes();
    options.digests = write.digests();
    options.stored =
        ChunkTable(write.encoded()->packer().sizes(), write.encoded()->itemsizes(), write.nbytes());
    return options;
}

void check_file(Engine &engine, const std::string &path, const WriteJob &write,
                const std::vector<std::byte> &source, std::size_t piece) {
    const ReadJob::Options how = reading(write);
    CHECK(std::filesystem::file_size(path) == how.stored->stored_nbytes());
    std::vector<std::byte> target(source.size());
    auto job = engine.read(path, in_pieces(target, piece), {}, how);
    wait(*job);
    CHECK(job->corrupt().empty());
    CHECK(target == source);
}

bool ends(WriteJob &job) {
    for (int i = 0; i < 3000; ++i) { // or it never will
        try {
            if (job.wait_for(100ms)) {
                return true;
            }
        } catch (const sucrose::Error &) {
            return true;
        }
    }
    return false;
}

std::vector<EngineOptions> all_kinds() {
    std::vector<EngineOptions> kinds;
    for (const char *backend : {"auto", "threads"}) {
        for (const char *mode : {"auto", "buffered", "direct"}) {
            for (const std::uint64_t direct_min : {std::uint64_t{1}, std::uint64_t{1} << 40}) {
                kinds.push_back({.io_backend = backend,
                                 .read_mode = mode,
                                 .slot_count = 3,
                                 .worker_count = 2,
                                 .io_depth = 3,
                                 .direct_min_nbytes = direct_min,
                                 .cuda_driver = "off"});
            }
        }
    }
    return kinds;
}

} // namespace

TEST_CASE("encoded files of any size come back from every backend") {
    const Folder folder;
    int count = 0;
    for (const EngineOptions &options : all_kinds()) {
        Engine engine(options);
        for (const std::size_t nbytes :
             {std::size_t{0}, std::size_t{1}, std::size_t{4095}, chunk_nbytes, chunk_nbytes + 1,
              3 * chunk_nbytes + 12345}) {
            for (const bool noise : {false, true}) {
                CAPTURE(options.io_backend);
                CAPTURE(options.read_mode);
                CAPTURE(nbytes);
                const std::string path = folder.file(std::to_string(count++));
                const auto source = noise ? random_bytes(nbytes) : mixture(nbytes);
                auto write = engine.write(path, in_pieces(source, 1000003), {},
                                          encoding(nbytes, count % 2 == 0 ? 2 : 0));
                wait(*write);
                CHECK(write->done_nbytes() == nbytes);
                for (std::size_t i = 0; i < write->digests().size(); ++i) {
                    const std::size_t n = std::min(chunk_nbytes, nbytes - i * chunk_nbytes);
                    REQUIRE(write->digests()[i] ==
                            sucrose::digest({source.data() + i * chunk_nbytes, n}));
                }
                check_file(engine, path, *write, source, 777777);
                check_file(engine, path, *write, source, nbytes + 1);
                std::filesystem::remove(path);
            }
        }
    }
}

TEST_CASE("single bytes are read from their chunk alone") {
    const Folder folder;
    Engine engine({.slot_count = 2, .worker_count = 2, .cuda_driver = "off"});
    const auto source = mixture(4 * chunk_nbytes + 99);
    const std::string path = folder.file("file");
    auto write =
        engine.write(path, in_pieces(source, source.size()), {}, encoding(source.size(), 4));
    wait(*write);
    for (const bool digests : {true, false}) {
        ReadJob::Options how = reading(*write);
        if (!digests) {
            how.digests.clear();
        }
        std::vector<std::byte> target(3);
        sucrose::ExtentList extents;
        const std::size_t offset = 3 * chunk_nbytes - 1;
        extents.append(offset, 3, address(target));
        const std::uint64_t before = engine.codecs().counters.decoded_nbytes;
        auto job = engine.read(path, std::move(extents), {}, how);
        wait(*job);
        CHECK(std::equal(target.begin(), target.end(), source.begin() + offset));
        CHECK(engine.codecs().counters.decoded_nbytes - before == 2 * chunk_nbytes);
    }
}

TEST_CASE("rings of one and two slots, many workers, several files and staging never lock up") {
    const Folder folder;
    int count = 0;
    for (const std::size_t slots : {1, 2}) {
        for (const char *backend : {"auto", "threads"}) {
            Engine engine({.io_backend = backend,
                           .slot_count = slots,
                           .worker_count = 8,
                           .io_depth = 1,
                           .direct_min_nbytes = 1,
                           .cuda_driver = "off"});
            std::vector<std::vector<std::byte>> sources;
            for (unsigned i = 0; i < 6; ++i) {
                sources.push_back(mixture((1 + i) * chunk_nbytes + 4567 * i, i));
            }
            std::vector<std::shared_ptr<WriteJob>> jobs;
            std::vector<std::string> paths;
            for (unsigned i = 0; i < sources.size(); ++i) {
                paths.push_back(folder.file(std::to_string(count++)));
                WriteJob::Options how = encoding(
                    sources[i].size(), static_cast<std::uint8_t>(2 * (i % 3)), i % 2 == 0 ? 0 : 3);
                if (i % 3 == 1) { // a slot or two for staging as well
                    how.staging = Staging::automatic;
                    how.staging_nbytes = slots * chunk_nbytes;
                }
                jobs.push_back(engine.write(paths[i], in_pieces(sources[i], 123457), {}, how));
            }
            for (unsigned i = 0; i < sources.size(); ++i) {
                REQUIRE(ends(*jobs[i]));
                check_file(engine, paths[i], *jobs[i], sources[i], sources[i].size());
            }
        }
    }
}

TEST_CASE("a chunk that cannot be compressed ends its file, and no other") {
    const Folder folder;
    const auto source = mixture(9 * chunk_nbytes + 5);
    for (const std::uint64_t nth : {1, 2, 4, 7, 10}) {
        for (const bool staged : {false, true}) {
            Engine engine({.slot_count = 3, .worker_count = 4, .cuda_driver = "off"});
            WriteJob::Options how = encoding(source.size(), 2);
            if (staged) {
                how.staging = Staging::host;
                how.staging_nbytes = 2 * chunk_nbytes;
            }
            const std::uint64_t rule = sucrose::fault::add(
                {.site = sucrose::fault::Site::compress, .nth = nth, .error_number = ENOMEM});
            auto failing =
                engine.write(folder.file("failing"), in_pieces(source, source.size()), {}, how);
            const bool ended = ends(*failing);
            sucrose::fault::remove(rule);
            REQUIRE(ended);
            CHECK_THROWS_AS(wait(*failing), sucrose::SystemError);
            auto after =
                engine.write(folder.file("after"), in_pieces(source, source.size()), {}, how);
            REQUIRE(ends(*after));
            check_file(engine, folder.file("after"), *after, source, source.size());
            std::filesystem::remove(folder.file("failing"));
            std::filesystem::remove(folder.file("after"));
        }
    }
}

TEST_CASE("an encoded write that is cancelled or fails ends, whatever waits for its turn") {
    const Folder folder;
    const auto source = mixture(20 * chunk_nbytes);
    for (int round = 0; round < 12; ++round) {
        Engine engine({.slot_count = 1 + static_cast<std::size_t>(round) % 4,
                       .worker_count = 6,
                       .cuda_driver = "off"});
        const std::string path = folder.file(std::to_string(round));
        const std::uint64_t rule =
            round % 2 == 0 ? 0
                           : sucrose::fault::add({.site = sucrose::fault::Site::pwrite,
                                                  .nth = 2 + static_cast<std::uint64_t>(round),
                                                  .error_number = ENOSPC});
        auto job =
            engine.write(path, in_pieces(source, source.size()), {}, encoding(source.size(), 0, 1));
        if (round % 2 == 0) {
            while (job->done_nbytes() < static_cast<std::size_t>(round) * chunk_nbytes) {
                job->wait_for(1ms);
            }
            job->cancel();
        }
        const bool ended = ends(*job);
        if (rule != 0) {
            sucrose::fault::remove(rule);
        }
        REQUIRE(ended);
    }
}

TEST_CASE("damage in an encoded file is a corrupt chunk, and the others are read") {
    const Folder folder;
    for (const char *mode : {"auto", "buffered", "direct"}) {
        Engine engine(
            {.read_mode = mode, .slot_count = 3, .worker_count = 2, .cuda_driver = "off"});
        const auto source = random_bytes(3 * chunk_nbytes);
        const std::string path = folder.file(mode);
        auto write =
            engine.write(path, in_pieces(source, source.size()), {}, encoding(source.size(), 2));
        wait(*write);
        const auto damage = [&](std::uint64_t at) {
            std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
            file.seekg(static_cast<std::streamoff>(at));
            const int byte = file.get();
            file.seekp(static_cast<std::streamoff>(at));
            file.put(static_cast<char>(~byte));
        };
        ReadJob::Options how = reading(*write);
        how.whole_file = true;
        damage(how.stored->offset(1) + 5000); // within a raw block: other bytes
        damage(how.stored->offset(2) + 1);    // of the magic number
        auto verify = engine.read(path, {}, {}, how);
        wait(*verify);
        REQUIRE(verify->corrupt().size() == 2);
        CHECK(verify->corrupt()[0].index == 1);
        CHECK(verify->corrupt()[0].undecodable.empty());
        CHECK(verify->corrupt()[0].expected == write->digests()[1]);
        CHECK(verify->corrupt()[1].index == 2);
        CHECK(verify->corrupt()[1].undecodable.find("no zstd frame") != std::string::npos);
        std::vector<std::byte> target(chunk_nbytes);
        auto read = engine.read(path, in_pieces(target, target.size()), {}, how);
        wait(*read);
        CHECK(std::equal(target.begin(), target.end(), source.begin()));
    }
}

TEST_CASE("an encoded file takes no more space than it is long") {
    const Folder folder;
    Engine engine({.direct_min_nbytes = 1, .cuda_driver = "off"});
    const std::vector<std::byte> source(40 * chunk_nbytes);
    const std::string path = folder.file("zeros");
    WriteJob::Options how = encoding(source.size(), 4);
    how.durable = true;
    auto write = engine.write(path, in_pieces(source, source.size()), {}, how);
    wait(*write);
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_size < 200000);
    CHECK(status.st_blocks * 512 < 400000);
}

TEST_CASE("space that cannot be reserved does not fail a file that fits") {
    const Folder folder;
    Engine engine({.direct_min_nbytes = 1, .cuda_driver = "off"});
    const auto source = mixture(6 * chunk_nbytes);
    const std::uint64_t rule = sucrose::fault::add({.site = sucrose::fault::Site::fallocate,
                                                    .times = sucrose::fault::forever,
                                                    .error_number = ENOSPC});
    auto write = engine.write(folder.file("file"), in_pieces(source, source.size()), {},
                              encoding(source.size(), 0));
    const bool ended = ends(*write);
    sucrose::fault::remove(rule);
    REQUIRE(ended);
    check_file(engine, folder.file("file"), *write, source, source.size());
}

TEST_CASE("an adaptive file stops compressing where storage is faster, and the next begins so") {
    sucrose::CompressionHistory history;
    using Trial = sucrose::CompressionTrial;
    const auto run = [&](Trial &trial, std::size_t nbytes, Trial::Clock::duration took) {
        for (int i = 0; i < 8; ++i) {
            trial.chunk_compressed(chunk_nbytes, nbytes, took);
        }
        for (int i = 0; i < 3; ++i) {
            trial.write_began();
            trial.write_ended(chunk_nbytes);
        }
    };
    Trial slow(history, 1, 1, true);
    CHECK(slow.compressing());
    run(slow, chunk_nbytes / 2, 10h); // no storage is that slow
    CHECK_FALSE(slow.compressing());
    REQUIRE(history.latest());
    CHECK_FALSE(history.latest()->pays());
    CHECK(history.latest()->ratio == doctest::Approx(0.5));
    CHECK_FALSE(Trial(history, 1, 1, true).compressing());
    CHECK(Trial(history, 2, 1, true).compressing()); // another storage
    bool again = false;
    for (int file = 0; file < 20 && !again; ++file) {
        again = Trial(history, 1, 1, true).compressing();
    }
    CHECK(again); // now and then it is measured once more

    Trial synced(history, 3, 4, false); // nothing is known before the sync
    run(synced, chunk_nbytes / 2, 1ns);
    CHECK(synced.compressing());
    CHECK_FALSE(history.recall(3));
    synced.file_ended(10h);
    REQUIRE(history.recall(3));
    CHECK(history.recall(3)->pays());
}

TEST_CASE("an adaptive file is the same bytes, compressed or not") {
    const Folder folder;
    Engine engine(
        {.slot_count = 4, .worker_count = 2, .direct_min_nbytes = 1, .cuda_driver = "off"});
    const auto source = mixture(15 * chunk_nbytes + 17);
    for (int i = 0; i < 3; ++i) {
        WriteJob::Options how = encoding(source.size(), 0, 5 - 4 * i);
        how.encoding->adaptive = true;
        const std::string path = folder.file(std::to_string(i));
        auto write = engine.write(path, in_pieces(source, source.size()), {}, how);
        REQUIRE(ends(*write));
        check_file(engine, path, *write, source, source.size());
    }
    const auto &counters = engine.codecs().counters;
    CHECK(counters.compressed_nbytes + counters.left_nbytes == 3 * source.size());
}
