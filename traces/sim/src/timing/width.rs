//! One binary for processors of different width.
//!
//! A function that moves many lanes is compiled three times from one source: for any processor, for AVX2 and for AVX-512. [`wide!`] does
//! that. The choice is made once, when a [`Width`] is taken; passing it on to what is called is a branch that always goes the same way.

/// How wide the vectors are that lanes are moved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Width(Vectors);

/// What a [`Width`] stands for. Only this file makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    /// All that this processor can, the widest last. There is no other way to a width, so one that exists can be used.
    pub(crate) fn available() -> Vec<Self> {
        let mut widths = vec![Self(Vectors::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                widths.push(Self(Vectors::Avx2));
            }
            let features = [
                is_x86_feature_detected!("avx512f"),
                is_x86_feature_detected!("avx512vl"),
                is_x86_feature_detected!("avx512bw"),
                is_x86_feature_detected!("avx512dq"),
            ];
            if features == [true; 4] {
                widths.push(Self(Vectors::Avx512));
            }
        }
        widths
    }

    #[inline(always)]
    pub(crate) fn vectors(self) -> Vectors {
        self.0
    }
}

/// Defines a function that takes a [`Width`] first and does what `$body`, which must be `#[inline(always)]`, does, compiled for that
/// width.
macro_rules! wide {
    ($(#[$attribute:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path) => {
        $(#[$attribute])*
        #[inline]
        $visible fn $name(width: $crate::timing::width::Width, $($argument: $type),*) $(-> $result)? {
            use $crate::timing::width::Vectors;

            #[inline(never)]
            fn plain($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(never)]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            }
            match width.vectors() {
                Vectors::Plain => plain($($argument),*),
                // SAFETY: a width is only made where the processor has its features (`Width::available`).
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}

pub(crate) use wide;
