//! Rows and tables: a row type knows its table, its columns, and how to come back from a frame.
//!
//! One macro writes both directions from one list of fields, so that a column cannot be written under one name and
//! read under another, and the schema of a table is the struct a person reads.

use polars::prelude::{Column, DataFrame};

/// A table of the dataset. The order is the order in which a flush writes them: what is referred to comes before what
/// refers to it, so that a recorder killed between two tables leaves no dangling identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Table {
    /// Executables and libraries, [`ModuleRow`](crate::ModuleRow).
    Modules,
    /// Frames of call stacks, [`SiteRow`](crate::SiteRow).
    Sites,
    /// What samples are attributed to, [`ObjectRow`](crate::ObjectRow).
    Objects,
    /// Blocks, [`AllocationRow`](crate::AllocationRow).
    Allocations,
    /// Observed accesses, [`SampleRow`](crate::SampleRow).
    Samples,
    /// Time series, [`CounterRow`](crate::CounterRow).
    Counters,
    /// Announced phases, [`MarkRow`](crate::MarkRow).
    Marks,
    /// Exact counts of a simulation, [`CountRow`](crate::CountRow).
    Counts,
    /// Placements that a simulation timed, [`PlacementRow`](crate::PlacementRow).
    Placements,
    /// Functions and lines of code addresses, [`SymbolRow`](crate::SymbolRow).
    Symbols,
}

impl Table {
    /// All of them, in writing order.
    pub const ALL: [Self; 10] = [
        Self::Modules,
        Self::Sites,
        Self::Objects,
        Self::Allocations,
        Self::Samples,
        Self::Counters,
        Self::Marks,
        Self::Counts,
        Self::Placements,
        Self::Symbols,
    ];

    /// The name of its directory: `samples.parquet`.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Modules => "modules.parquet",
            Self::Sites => "sites.parquet",
            Self::Objects => "objects.parquet",
            Self::Allocations => "allocations.parquet",
            Self::Samples => "samples.parquet",
            Self::Counters => "counters.parquet",
            Self::Marks => "marks.parquet",
            Self::Counts => "counts.parquet",
            Self::Placements => "placements.parquet",
            Self::Symbols => "symbols.parquet",
        }
    }

    /// `samples`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.directory().trim_end_matches(".parquet")
    }
}

/// One row of one table. Implemented by the row types of this crate only.
pub trait Row: Codec {
    /// The table it belongs to.
    const TABLE: Table;
}

/// Rows to columns and back. Not for use outside: it shows types of the Parquet library.
pub trait Codec: Sized + Send + 'static {
    /// One column per field, in the order of the fields.
    fn columns(rows: &[Self]) -> Vec<Column>;

    /// Rows out of a frame: columns it does not know are ignored, missing ones that have a default are defaulted.
    ///
    /// # Errors
    /// A column that has no default is missing, or a column cannot be read as its type.
    fn from_frame(frame: &DataFrame) -> Result<Vec<Self>, String>;
}

macro_rules! row {
    (
        $(#[$doc:meta])*
        $name:ident in $table:ident {
            $( $(#[$fdoc:meta])* $field:ident : $ty:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty ),* }

        impl $crate::row::Row for $name {
            const TABLE: $crate::row::Table = $crate::row::Table::$table;
        }

        impl $crate::row::Codec for $name {
            fn columns(rows: &[Self]) -> Vec<polars::prelude::Column> {
                vec![$(
                    <$ty as $crate::cell::Cell>::column(stringify!($field), rows.iter().map(|row| &row.$field))
                ),*]
            }

            fn from_frame(frame: &polars::prelude::DataFrame) -> Result<Vec<Self>, String> {
                $(
                    #[allow(unused_mut, unused_assignments)]
                    let mut default = <$ty as $crate::cell::Cell>::MISSING;
                    $( default = Some($default); )?
                    let mut $field = $crate::cell::read::<$ty>(frame, stringify!($field), default)?.into_iter();
                )*
                let mut rows = Vec::with_capacity(frame.height());
                while let ($(Some($field),)*) = ($($field.next(),)*) {
                    rows.push(Self { $($field),* });
                }
                Ok(rows)
            }
        }
    };
}
pub(crate) use row;
