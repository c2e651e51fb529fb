"""Fuzzing of everything that reads a stranger's bytes.

A target is a function of bytes that ends in an AssertionError where the code under it breaks a promise: another
exception than the documented one, more output than its bound, a meaning that does not survive its own encoding. It
needs no fuzzer, so each input ever found goes through it again in tests/fuzz, on any machine; `corpus/<target>/` has
them, named by their SHA-1 as libFuzzer names them.

    python -m security.fuzz                                          the targets
    python -m security.fuzz lzw FOUND security/fuzz/corpus/lzw -max_total_time=600
    python -m security.fuzz lzw FILE                                 an input that failed, once more
    python -m security.fuzz.minimise lzw FOUND                       what was found that is worth keeping, into corpus/
    python -m security.fuzz.seeds lzw                                the golden vectors as inputs, into corpus/

Coverage-guided fuzzing needs atheris, which has wheels for some Pythons only. A fuzzer cannot guess an AES-GCM tag, a
CRC or a good code stream, so where a layer would keep it out the target puts the layer on itself, as an insider who
has the cluster key can.
"""
