//! Sixteen lanes of 32-bit times, moved together.
//!
//! Every operation is a plain loop over sixteen words, which the compiler turns into one AVX-512 instruction, two of AVX2 or four
//! of SSE, whichever the surrounding function is compiled for. Nothing here depends on which: results are equal bit for bit.

/// Lanes of a group.
pub(crate) const WIDTH: usize = 16;

/// One word for each lane of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct V(pub(crate) [u32; WIDTH]);

impl V {
    pub(crate) const ZERO: Self = Self([0; WIDTH]);

    #[inline(always)]
    pub(crate) const fn splat(value: u32) -> Self {
        Self([value; WIDTH])
    }

    /// All ones in the lanes whose bit is set.
    #[inline(always)]
    pub(crate) fn mask(bits: u16) -> Self {
        let mut lanes = [0; WIDTH];
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = 0u32.wrapping_sub((u32::from(bits) >> i) & 1);
        }
        Self(lanes)
    }

    #[expect(clippy::needless_range_loop, reason = "the form of loop that becomes one instruction")]
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        let mut lanes = [0; WIDTH];
        for i in 0..WIDTH {
            lanes[i] = f(self.0[i], other.0[i]);
        }
        Self(lanes)
    }

    /// The later time of each lane.
    #[inline(always)]
    #[must_use]
    pub(crate) fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// The earlier time of each lane.
    #[inline(always)]
    #[must_use]
    pub(crate) fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }

    /// The same span later in every lane.
    #[inline(always)]
    #[must_use]
    pub(crate) fn after(self, span: u32) -> Self {
        self.plus(Self::splat(span))
    }

    /// Earlier by `other`, but not before 0.
    #[inline(always)]
    #[must_use]
    pub(crate) fn less(self, other: Self) -> Self {
        self.zip(other, |a, b| a.saturating_sub(b))
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn not(self) -> Self {
        self.zip(self, |a, _| !a)
    }

    /// All ones where the two are equal.
    #[inline(always)]
    #[must_use]
    pub(crate) fn equals(self, other: Self) -> Self {
        self.zip(other, |a, b| if a == b { u32::MAX } else { 0 })
    }

    /// All ones where this is the smaller.
    #[inline(always)]
    #[must_use]
    pub(crate) fn below(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { u32::MAX } else { 0 })
    }

    /// `yes` in the lanes of a mask, `no` in the others.
    #[expect(clippy::needless_range_loop, reason = "the form of loop that becomes one instruction")]
    #[inline(always)]
    #[must_use]
    pub(crate) fn select(mask: Self, yes: Self, no: Self) -> Self {
        let mut lanes = [0; WIDTH];
        for i in 0..WIDTH {
            lanes[i] = if mask.0[i] != 0 { yes.0[i] } else { no.0[i] };
        }
        Self(lanes)
    }

    /// Whether it is zero in every lane.
    #[inline(always)]
    pub(crate) fn is_zero(self) -> bool {
        let mut any = 0;
        for lane in self.0 {
            any |= lane;
        }
        any == 0
    }

    /// The largest of all lanes.
    pub(crate) fn largest(self) -> u32 {
        self.0.into_iter().fold(0, u32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_independent() {
        let a = V(std::array::from_fn(|i| i as u32 * 3));
        let b = V::splat(20);
        for i in 0..WIDTH {
            let x = i as u32 * 3;
            assert_eq!((a.max(b).0[i], a.min(b).0[i], a.less(b).0[i]), (x.max(20), x.min(20), x.saturating_sub(20)));
            assert_eq!(V::select(a.below(b), a, b).0[i], x.min(20));
            assert_eq!(V::mask(0b1001).0[i], if i == 0 || i == 3 { u32::MAX } else { 0 });
        }
        assert!(V::ZERO.is_zero() && !V::mask(1 << 15).is_zero());
        assert_eq!(a.largest(), 45);
    }
}
