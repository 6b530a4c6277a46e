# Finds the header xxhash.h and defines Xxhash::header_only and Xxhash_VERSION.
#
# Header only: the digest kernel is compiled once per instruction set, so the library's own build is of no use.

find_path(Xxhash_INCLUDE_DIR xxhash.h)
mark_as_advanced(Xxhash_INCLUDE_DIR)

if(NOT Xxhash_INCLUDE_DIR)
  # The leading blank keeps CMake from wrapping the line.
  message(FATAL_ERROR " xxhash.h was not found: run 'apt-get install libxxhash-dev' (Debian, Ubuntu) or 'dnf install xxhash-devel' (Fedora, RHEL)")
endif()

file(STRINGS "${Xxhash_INCLUDE_DIR}/xxhash.h" _lines REGEX "^#define XXH_VERSION_(MAJOR|MINOR|RELEASE) +[0-9]+")
string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
list(JOIN _numbers "." Xxhash_VERSION)

if(NOT TARGET Xxhash::header_only)
  add_library(Xxhash::header_only INTERFACE IMPORTED)
  set_target_properties(Xxhash::header_only PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${Xxhash_INCLUDE_DIR}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Xxhash REQUIRED_VARS Xxhash_INCLUDE_DIR VERSION_VAR Xxhash_VERSION)
