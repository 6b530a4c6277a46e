#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "error.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using sucrose::chunk_nbytes;
using sucrose::Engine;
using sucrose::EngineOptions;
using sucrose::ExtentList;
using sucrose::ReadJob;

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
                                 .direct_min_nbytes = direct_min});
            }
        }
    }
    return kinds;
}

} // namespace

TEST_CASE("bytes of any size come back from every backend, with the digests they left with") {
    const Folder folder;
    int count = 0;
    for (const EngineOptions &options : all_kinds()) {
        Engine engine(options);
        for (const std::size_t nbytes : {std::size_t{0}, std::size_t{1}, std::size_t{4095},
                                         chunk_nbytes + 1, 2 * chunk_nbytes + 12345}) {
            CAPTURE(options.io_backend);
            CAPTURE(options.read_mode);
            CAPTURE(nbytes);
            const std::string path = folder.file(std::to_string(count++));
            const std::vector<std::byte> source = random_bytes(nbytes);
            auto write = engine.write(path, in_pieces(source, 1000003), {},
                                      {.digest = true, .durable = true});
            wait(*write);
            REQUIRE(contents(path) == source);
            REQUIRE(write->digests().size() == (nbytes + chunk_nbytes - 1) / chunk_nbytes);
            for (std::size_t i = 0; i < write->digests().size(); ++i) {
                const std::size_t begin = i * chunk_nbytes;
                const std::size_t n = std::min(chunk_nbytes, nbytes - begin);
                REQUIRE(write->digests()[i] == sucrose::digest({source.data() + begin, n}));
            }
            for (const std::size_t piece : {std::size_t{777777}, nbytes + 1}) {
                std::vector<std::byte> target(nbytes);
                ReadJob::Options read;
                read.file_nbytes = nbytes;
                read.digests = write->digests();
                auto job = engine.read(path, in_pieces(target, piece), {}, read);
                wait(*job);
                REQUIRE(job->corrupt().empty());
                REQUIRE(target == source);
            }
        }
    }
}

TEST_CASE("a changed byte is reported with its chunk, and the others are read") {
    const Folder folder;
    for (const EngineOptions &options : all_kinds()) {
        Engine engine(options);
        const std::string path = folder.file("changed");
        const std::vector<std::byte> source = random_bytes(3 * chunk_nbytes);
        auto write = engine.write(path, in_pieces(source, source.size()), {},
                                  {.digest = true, .durable = true});
        wait(*write);
        {
            std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
            file.seekp(static_cast<std::streamoff>(chunk_nbytes + 17));
            file.put(static_cast<char>(~std::to_integer<int>(source[chunk_nbytes + 17])));
        }
        ReadJob::Options check;
        check.file_nbytes = source.size();
        check.digests = write->digests();
        check.whole_file = true;
        auto verify = engine.read(path, {}, {}, check);
        wait(*verify);
        REQUIRE(verify->corrupt().size() == 1);
        CHECK(verify->corrupt()[0].index == 1);
        CHECK(verify->corrupt()[0].expected == write->digests()[1]);
        std::filesystem::remove(path);
    }
}

TEST_CASE("a file of another length is an input/output error") {
    const Folder folder;
    Engine engine(EngineOptions{});
    const std::vector<std::byte> source = random_bytes(10000);
    wait(*engine.write(folder.file("short"), in_pieces(source, 10000), {},
                       {.digest = true, .durable = true}));
    ReadJob::Options options;
    options.file_nbytes = 10001;
    try {
        engine.read(folder.file("short"), {}, {}, options);
        FAIL("the length was believed");
    } catch (const sucrose::SystemError &error) {
        CHECK(error.error_number() == EIO);
        CHECK(error.path() == folder.file("short"));
    }
}

TEST_CASE("an existing file is left alone") {
    const Folder folder;
    Engine engine(EngineOptions{});
    const std::vector<std::byte> source = random_bytes(100);
    wait(*engine.write(folder.file("there"), in_pieces(source, 100), {},
                       {.digest = true, .durable = false}));
    CHECK_THROWS_AS(engine.write(folder.file("there"), {}, {}, {.digest = true, .durable = false}),
                    sucrose::SystemError);
    CHECK(contents(folder.file("there")) == source);
}

TEST_CASE("a cancelled job ends, with an error, and its engine goes on") {
    const Folder folder;
    Engine engine({.slot_count = 2, .worker_count = 1});
    const std::vector<std::byte> source = random_bytes(8 * chunk_nbytes);
    auto job = engine.write(folder.file("cancelled"), in_pieces(source, source.size()), {},
                            {.digest = true, .durable = false});
    job->cancel();
    try {
        wait(*job);
        CHECK(job->done_nbytes() == source.size()); // it was faster
    } catch (const sucrose::Cancelled &) {
        CHECK(job->done_nbytes() < source.size());
    }
    wait(*engine.write(folder.file("next"), in_pieces(source, source.size()), {},
                       {.digest = true, .durable = false}));
    CHECK(contents(folder.file("next")) == source);
}

TEST_CASE("many jobs share a small ring, from several threads") {
    const Folder folder;
    Engine engine({.slot_count = 2, .worker_count = 2});
    const std::vector<std::byte> source = random_bytes(3 * chunk_nbytes + 5);
    std::vector<std::jthread> threads;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 2; ++i) {
                const std::string path = folder.file(std::to_string(10 * t + i));
                auto write = engine.write(path, in_pieces(source, 99999), {},
                                          {.digest = true, .durable = false});
                wait(*write);
                std::vector<std::byte> target(source.size());
                ReadJob::Options options;
                options.file_nbytes = source.size();
                options.digests = write->digests();
                options.max_in_flight = 1;
                auto read = engine.read(path, in_pieces(target, 123456), {}, options);
                wait(*read);
                wrong += target != source || !read->corrupt().empty();
            }
        });
    }
    threads.clear();
    CHECK(wrong == 0);
}

TEST_CASE("an engine that goes finishes what it was given") {
    const Folder folder;
    const std::vector<std::byte> source = random_bytes(6 * chunk_nbytes);
    for (const char *backend : {"auto", "threads"}) {
        const std::string path = folder.file(backend);
        std::shared_ptr<sucrose::WriteJob> job;
        {
            Engine engine({.io_backend = backend, .slot_count = 2});
            job = engine.write(path, in_pieces(source, source.size()), {},
                               {.digest = true, .durable = true});
        }
        CHECK(job->wait_for(0ms));
        CHECK(contents(path) == source);
    }
}

TEST_CASE("checksums of extents and of what a read delivers agree with each other") {
    const Folder folder;
    Engine engine(EngineOptions{});
    const std::vector<std::byte> source = random_bytes(2 * chunk_nbytes + 999);
    const std::vector<std::uint32_t> expected = engine.crc32(in_pieces(source, 1234567));
    wait(*engine.write(folder.file("file"), in_pieces(source, source.size()), {},
                       {.digest = false, .durable = false}));
    std::vector<std::byte> target(source.size());
    ReadJob::Options options;
    options.file_nbytes = source.size();
    options.crc32 = true;
    auto read = engine.read(folder.file("file"), in_pieces(target, 1234567), {}, options);
    wait(*read);
    CHECK(read->crc32s() == expected);
}

TEST_CASE("fsync of what is missing names it") {
    const Folder folder;
    Engine engine(EngineOptions{});
    engine.sync({folder.file(".")});
    try {
        engine.sync({folder.file("."), folder.file("missing")});
        FAIL("nobody noticed");
    } catch (const sucrose::SystemError &error) {
        CHECK(error.error_number() == ENOENT);
        CHECK(error.path() == folder.file("missing"));
    }
}
