//! One field of a row as a column and back.
//!
//! Writing is total: a column is made from what the fields hold. Reading trusts nothing: the column may be missing, of
//! another width (other tools rewrite `u16` as `i64`), or hold nulls and values out of range; all of that ends in an
//! error that names the column, or in the default the field declares.
//!
//! Small integers and words are stored wide (`u32`, strings): the Parquet encodings pack them again, and the narrow
//! types of the library would cost build time.

use polars::prelude::{
    BooleanChunked, Column, DataFrame, DataType, Float32Chunked, Float64Chunked, IntoColumn, NamedFrom,
    NewChunkedArray, Series, StringChunked, UInt32Chunked, UInt64Chunked,
};

use crate::words::{Access, AddressQuality, Attribution, Level, ObjectKind, PlacementKind, Tlb, Word};

/// A type that a field of a row may have.
pub(crate) trait Cell: Sized + Clone {
    /// What a missing column reads as, unless the field says otherwise; `None` if it must be there.
    const MISSING: Option<Self>;

    /// The column type it is stored as.
    fn dtype() -> DataType;

    /// The values as a column.
    fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column
    where
        Self: 'a;

    /// The values of a column that already has [`Self::dtype`]; the error is a reason.
    fn values(column: &Column) -> Result<Vec<Self>, String>;
}

/// The cells of one column of a frame, or as many times the default.
pub(crate) fn read<C: Cell>(frame: &DataFrame, name: &str, default: Option<C>) -> Result<Vec<C>, String> {
    let Ok(column) = frame.column(name) else {
        return match default {
            Some(default) => Ok(vec![default; frame.height()]),
            None => Err(format!("column {name} is missing")),
        };
    };
    let wanted = C::dtype();
    let cast;
    let column = if *column.dtype() == wanted {
        column
    } else {
        cast = column.strict_cast(&wanted).map_err(|e| format!("column {name} is not {wanted}: {e}"))?;
        &cast
    };
    C::values(column).map_err(|reason| format!("column {name} {reason}"))
}

const NULL: &str = "holds a null where none may be";

macro_rules! stored_as_is {
    ($($ty:ty, $dtype:ident, $chunked:ident, $get:ident;)*) => { $(
        impl Cell for $ty {
            const MISSING: Option<Self> = None;
            fn dtype() -> DataType { DataType::$dtype }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                $chunked::from_iter_values(name.into(), values.copied()).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                let chunked = column.$get().map_err(|e| e.to_string())?;
                chunked.iter().map(|value| value.ok_or_else(|| NULL.to_owned())).collect()
            }
        }

        impl Cell for Option<$ty> {
            const MISSING: Option<Self> = Some(None);
            fn dtype() -> DataType { DataType::$dtype }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                $chunked::from_iter_options(name.into(), values.copied()).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                Ok(column.$get().map_err(|e| e.to_string())?.iter().collect())
            }
        }
    )* };
}

stored_as_is! {
    u32, UInt32, UInt32Chunked, u32;
    u64, UInt64, UInt64Chunked, u64;
    f32, Float32, Float32Chunked, f32;
    f64, Float64, Float64Chunked, f64;
}

macro_rules! stored_wide {
    ($($ty:ty),*) => { $(
        impl Cell for $ty {
            const MISSING: Option<Self> = None;
            fn dtype() -> DataType { DataType::UInt32 }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                UInt32Chunked::from_iter_values(name.into(), values.map(|&value| u32::from(value))).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                let chunked = column.u32().map_err(|e| e.to_string())?;
                chunked.iter().map(|value| narrow(value.ok_or(NULL)?)).collect()
            }
        }

        impl Cell for Option<$ty> {
            const MISSING: Option<Self> = Some(None);
            fn dtype() -> DataType { DataType::UInt32 }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                UInt32Chunked::from_iter_options(name.into(), values.map(|value| value.map(u32::from))).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                let chunked = column.u32().map_err(|e| e.to_string())?;
                chunked.iter().map(|value| value.map(narrow).transpose()).collect()
            }
        }
    )* };
}

stored_wide!(u8, u16);

fn narrow<T: TryFrom<u32>>(value: u32) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("holds {value}, which is out of range"))
}

impl Cell for bool {
    const MISSING: Option<Self> = None;
    fn dtype() -> DataType {
        DataType::Boolean
    }
    fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
        let values: Vec<bool> = values.copied().collect();
        BooleanChunked::from_slice(name.into(), &values).into_column()
    }
    fn values(column: &Column) -> Result<Vec<Self>, String> {
        let chunked = column.bool().map_err(|e| e.to_string())?;
        chunked.iter().map(|value| value.ok_or_else(|| NULL.to_owned())).collect()
    }
}

impl Cell for Option<bool> {
    const MISSING: Option<Self> = Some(None);
    fn dtype() -> DataType {
        DataType::Boolean
    }
    fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
        values.copied().collect::<BooleanChunked>().with_name(name.into()).into_column()
    }
    fn values(column: &Column) -> Result<Vec<Self>, String> {
        Ok(column.bool().map_err(|e| e.to_string())?.iter().collect())
    }
}

impl Cell for String {
    const MISSING: Option<Self> = None;
    fn dtype() -> DataType {
        DataType::String
    }
    fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
        StringChunked::from_iter_values(name.into(), values.map(String::as_str)).into_column()
    }
    fn values(column: &Column) -> Result<Vec<Self>, String> {
        let chunked = column.str().map_err(|e| e.to_string())?;
        chunked.iter().map(|value| value.map(str::to_owned).ok_or_else(|| NULL.to_owned())).collect()
    }
}

impl Cell for Option<String> {
    const MISSING: Option<Self> = Some(None);
    fn dtype() -> DataType {
        DataType::String
    }
    fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
        let values: Vec<Option<&str>> = values.map(Option::as_deref).collect();
        Series::new(name.into(), values).into_column()
    }
    fn values(column: &Column) -> Result<Vec<Self>, String> {
        let chunked = column.str().map_err(|e| e.to_string())?;
        Ok(chunked.iter().map(|value| value.map(str::to_owned)).collect())
    }
}

macro_rules! stored_as_words {
    ($($ty:ty),*) => { $(
        impl Cell for $ty {
            const MISSING: Option<Self> = Some(<$ty as Word>::UNKNOWN);
            fn dtype() -> DataType { DataType::String }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                StringChunked::from_iter_values(name.into(), values.map(|value| value.word())).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                let chunked = column.str().map_err(|e| e.to_string())?;
                Ok(chunked.iter().map(|word| word.map_or(Self::UNKNOWN, Self::from_word)).collect())
            }
        }

        impl Cell for Option<$ty> {
            const MISSING: Option<Self> = Some(None);
            fn dtype() -> DataType { DataType::String }
            fn column<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a Self>) -> Column {
                let words: Vec<Option<&str>> = values.map(|value| value.map(Word::word)).collect();
                Series::new(name.into(), words).into_column()
            }
            fn values(column: &Column) -> Result<Vec<Self>, String> {
                let chunked = column.str().map_err(|e| e.to_string())?;
                Ok(chunked.iter().map(|word| word.map(<$ty as Word>::from_word)).collect())
            }
        }
    )* };
}

stored_as_words!(ObjectKind, Access, AddressQuality, Attribution, Level, Tlb, PlacementKind);
