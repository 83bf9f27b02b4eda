// Compiled by Bazel when a program is linked, with what tools/workspace/status
// says if it is built with --stamp.

namespace pcachefs {

extern const char kBuildCommit[];
const char kBuildCommit[] =
#ifdef BUILD_SCM_REVISION
    BUILD_SCM_REVISION;
#else
    "";
#endif

}  // namespace pcachefs
