// Compiled by Bazel when a program is linked, with what tools/workspace/status
// says if it is built with --stamp.

namespace pcachefs {

extern const char kBuildCommit[];
const char kBuildCommit[] =
#ifdef STABLE_GIT_COMMIT
    STABLE_GIT_COMMIT;
#else
    "";
#endif

}  // namespace pcachefs
