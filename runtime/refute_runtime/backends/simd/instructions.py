"""Vector instructions that only some processors have; `Emitter` does the same by what all of them have.

A kernel with an instruction that is not there ends the process when it is compiled: `build.Processor` says
what may be used. Every form gives the same integers.
"""

from refute_runtime.backends.simd.emit import I1, I8, I16, I32, Emitter, Value, vector


class Avx2(Emitter):
    """Vectors of 32 bytes: AVX2."""

    def byte_pairs(self, unsigned: Value, signed: Value) -> Value:
        kinds, words = [unsigned.type, signed.type], vector(I16, unsigned.type.count // 2)
        return self.call("llvm.x86.avx2.pmadd.ub.sw", words, kinds, unsigned, signed)

    def signed_pairs(self, a: Value, b: Value) -> Value:
        return self.byte_pairs(*self.unsigned(a, b))

    def unsigned(self, a: Value, b: Value) -> tuple[Value, Value]:
        """|a|, and b with the sign of a besides: their products are those of a and b (32 x i8)."""
        size = self.call("llvm.abs.v32i8", a.type, [a.type, I1], a, I1(0))
        return size, self.call("llvm.x86.avx2.psign.b", a.type, [a.type, a.type], b, a)

    def pairs(self, a: Value, b: Value) -> Value:
        names = {8: "llvm.x86.sse2.pmadd.wd", 16: "llvm.x86.avx2.pmadd.wd"}
        lanes = a.type.count
        return self.call(names[lanes], vector(I32, lanes // 2), [a.type, b.type], a, b)


class Vnni(Avx2):
    """Vectors of 64 bytes: AVX-512 with BW, VL and VNNI."""

    BYTES = 64

    def pairs(self, a: Value, b: Value) -> Value:
        if a.type.count < 32:
            return super().pairs(a, b)
        return self.call("llvm.x86.avx512.pmaddw.d.512", vector(I32, 16), [a.type, b.type], a, b)

    def byte_dots(self, sums: Value, unsigned: Value, signed: Value) -> Value:
        """Lane by lane, sums (16 or 8 x i32) += four products of bytes, unsigned by signed."""
        bits = sums.type.count * 32
        bytes_ = vector(I8, bits // 8)
        name = f"llvm.x86.avx512.vpdpbusd.{bits}"
        return self.call(name, sums.type, [sums.type, bytes_, bytes_], sums, unsigned, signed)

    def signed_dots(self, a: Value, b: Value) -> Value:
        return self.byte_dots(self.zero(vector(I32, a.type.count // 4)), *self.unsigned(a, b))

    def word_dots(self, sums: Value, a: Value, b: Value) -> Value:
        """Lane by lane, sums (16 x i32) += two products of int16 (32 x i16)."""
        return self.call("llvm.x86.avx512.vpdpwssd.512", sums.type, [sums.type, a.type, b.type], sums, a, b)

    def packed(self, a: Value, b: Value) -> Value:
        """Two vectors of 16 x i32 that fit an int16 as one of 32 x i16: of each by turns, four lanes."""
        words = vector(I16, 32)
        return self.call("llvm.x86.avx512.packssdw.512", words, [a.type, a.type], a, b)
