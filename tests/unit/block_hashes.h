/* Made by block_hashes.py with gguf-py; X(type, hash of 1024 blocks' values). */
#ifndef DSPARK_TESTS_BLOCK_HASHES_H
#define DSPARK_TESTS_BLOCK_HASHES_H

enum { BLOCK_HASH_BLOCKS = 1024 };

#define BLOCK_HASHES(X) \
    X(Q4_0, UINT64_C(0xff197de8769d7f25)) \
    X(Q4_1, UINT64_C(0xef14085bbc2f6351)) \
    X(Q5_0, UINT64_C(0x0348468f83eee725)) \
    X(Q5_1, UINT64_C(0x81df5e1308d58397)) \
    X(Q8_0, UINT64_C(0x4d749c13693849a5)) \
    X(Q2_K, UINT64_C(0x2717ae5c0dd5e5e5)) \
    X(Q3_K, UINT64_C(0x290d362e59d039e5)) \
    X(Q4_K, UINT64_C(0x4bab0044ed61b0c5)) \
    X(Q5_K, UINT64_C(0xa64ac2b3a0f1d239)) \
    X(Q6_K, UINT64_C(0x6538e1be7b95d329)) \
    X(IQ4_NL, UINT64_C(0xf2a206e224dd5965)) \
    X(IQ4_XS, UINT64_C(0x1c1665d59ca603eb)) \
    X(MXFP4, UINT64_C(0xf62bb4ff158c2325))

#endif
