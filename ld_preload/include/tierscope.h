/* Tells Tierscope what a program is doing. A no-op where Tierscope is not, and nothing to link against.
 *
 *     #include "tierscope.h"
 *     tierscope_mark("build the graph");
 *     ...
 *     tierscope_mark("query it");
 *
 * The loader fills the reference in when the preload shim is there. Linking without -pie settles it as absent for good:
 * calls from a position-dependent executable do nothing.
 */
#ifndef TIERSCOPE_H
#define TIERSCOPE_H

#ifdef __cplusplus
extern "C" {
#endif

/* A phase of the program begins; it ends where the next begins. The name is copied. */
extern void tierscope_mark(const char *name) __attribute__((weak));

/* So that a call is skipped where there is nobody to call. */
#define tierscope_mark(name) (tierscope_mark ? (tierscope_mark)(name) : (void)0)

#ifdef __cplusplus
}
#endif

#endif
