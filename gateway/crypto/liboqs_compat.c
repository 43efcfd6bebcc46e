/*
 * Compiled into the liboqs that kem_oqs_build makes.
 *
 * `import oqs` of liboqs-python 0.16 looks this function up at import time, whether signatures
 * are wanted or not, and fails where it is absent. The newest liboqs sources to be had as a
 * package are 0.13, which has the answer in struct OQS_SIG but no function for it.
 *
 * Weak, so that the library's own function takes its place once those sources have one.
 */
#include <oqs/oqs.h>

OQS_API bool OQS_SIG_supports_ctx_str(const char *alg_name);

__attribute__((weak)) bool OQS_SIG_supports_ctx_str(const char *alg_name) {
	OQS_SIG *sig = alg_name == NULL ? NULL : OQS_SIG_new(alg_name);
	bool supported = sig != NULL && sig->sig_with_ctx_support;
	OQS_SIG_free(sig); /* takes NULL */
	return supported;
}
