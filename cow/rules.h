// The COW fork keeps these rules of the commit protocol, one predicate each. docs/design.md has the argument.
//
// The predicates live in a library of their own, so that tests/canaries can link a broken one in its place.
#ifndef UNTORN_COW_RULES_H_
#define UNTORN_COW_RULES_H_

namespace untorn::rules {

// A change set waits for another that is committing, if both have a version of one block. Without this rule
// the later set becomes durable first, and frees the extent that a late write in place still goes to. The
// next owner of that extent finds foreign data in it.
bool MayPassOneThatWritesTheSameBlock();

}  // namespace untorn::rules

#endif  // UNTORN_COW_RULES_H_
