//! The canonical form of a rule, and the hash of it.
//!
//! Invariants:
//! - Canonical: nested conjunctions and disjunctions are flattened; `Not` stands only before an `In`; an `In`
//!   has two or more literals, sorted, each once; an `And` or `Or` has two or more parts, sorted, each once,
//!   or none at all; a float literal is the one bit pattern of its value.
//! - It is reached by rewriting the text's structure alone: rules that hold for the same rows but are written
//!   with other literals keep different forms. [`super::equal`] compares meanings.
//! - The encoding below is hashed into names that are persisted: it never changes.
//!
//! The hash is XXH3-128 (seed 0) over this encoding, all numbers little-endian:
//!
//! ```text
//! rule    = 01 expr
//! expr    = 01 count:u32 expr*                       And
//!         | 02 count:u32 expr*                       Or
//!         | 03 expr                                  Not
//!         | 04 column:u32 op:u8 value                Compare; op = != < <= > >= as 0 to 5
//!         | 05 column:u32 count:u32 value*           In
//! value   = 00                                       NULL
//!         | 01 u8 | 02 i64 | 03 u64 | 04 f64 bits    Boolean, Int, UInt, Float
//!         | 05 len:u32 bytes | 06 len:u32 bytes      String, Binary
//!         | 07 i32 | 08 i64 | 09 i128                Date, Timestamp, Decimal
//! ```

use xxhash_rust::xxh3::xxh3_128;

use super::{CompareOp, Expr, RuleVersion};
use crate::id::Nonce;
use crate::value::{Value, canonical_float};

impl Expr {
    /// Its canonical form; see the invariants of the module. Canonical forms are fixed points.
    #[must_use]
    pub fn canonical(&self) -> Self {
        canonical(self, false)
    }

    /// The hash of its canonical form.
    #[must_use]
    pub fn version(&self) -> RuleVersion {
        let mut bytes = vec![1];
        encode(&self.canonical(), &mut bytes);
        RuleVersion(Nonce(xxh3_128(&bytes)))
    }
}

/// The canonical form of `expr`, or of its negation.
fn canonical(expr: &Expr, negate: bool) -> Expr {
    match expr {
        Expr::And(parts) => join(parts, negate, !negate),
        Expr::Or(parts) => join(parts, negate, negate),
        Expr::Not(inner) => canonical(inner, !negate),
        Expr::Compare { column, op, value } => {
            let op = if negate { op.negated() } else { *op };
            Expr::Compare { column: *column, op, value: canonical_value(value) }
        }
        Expr::In { column, values } => {
            let mut values: Vec<Value> = values.iter().map(canonical_value).collect();
            values.sort();
            values.dedup();
            match (values.len(), negate) {
                (0, false) => Expr::never(),
                (0, true) => Expr::always(),
                (1, _) => {
                    let op = if negate { CompareOp::NotEq } else { CompareOp::Eq };
                    Expr::Compare { column: *column, op, value: values.swap_remove(0) }
                }
                (_, false) => Expr::In { column: *column, values },
                (_, true) => Expr::In { column: *column, values }.negated(),
            }
        }
    }
}

/// The canonical conjunction (or else disjunction) of the parts, each negated first if `negate`.
fn join(parts: &[Expr], negate: bool, conjunction: bool) -> Expr {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match canonical(part, negate) {
            Expr::And(inner) if conjunction => flat.extend(inner),
            Expr::Or(inner) if !conjunction => flat.extend(inner),
            // The empty disjunction in a conjunction decides it, and the reverse.
            Expr::Or(inner) if inner.is_empty() => return Expr::never(),
            Expr::And(inner) if inner.is_empty() => return Expr::always(),
            other => flat.push(other),
        }
    }
    flat.sort();
    flat.dedup();
    match (flat.len(), conjunction) {
        (1, _) => flat.swap_remove(0),
        (_, true) => Expr::And(flat),
        (_, false) => Expr::Or(flat),
    }
}

fn canonical_value(value: &Value) -> Value {
    match value {
        Value::Float(v) => Value::Float(canonical_float(*v)),
        other => other.clone(),
    }
}

fn encode(expr: &Expr, out: &mut Vec<u8>) {
    match expr {
        Expr::And(parts) => {
            out.push(1);
            encode_count(parts.len(), out);
            parts.iter().for_each(|part| encode(part, out));
        }
        Expr::Or(parts) => {
            out.push(2);
            encode_count(parts.len(), out);
            parts.iter().for_each(|part| encode(part, out));
        }
        Expr::Not(inner) => {
            out.push(3);
            encode(inner, out);
        }
        Expr::Compare { column, op, value } => {
            out.push(4);
            out.extend(column.0.to_le_bytes());
            out.push(match op {
                CompareOp::Eq => 0,
                CompareOp::NotEq => 1,
                CompareOp::Lt => 2,
                CompareOp::LtEq => 3,
                CompareOp::Gt => 4,
                CompareOp::GtEq => 5,
            });
            encode_value(value, out);
        }
        Expr::In { column, values } => {
            out.push(5);
            out.extend(column.0.to_le_bytes());
            encode_count(values.len(), out);
            values.iter().for_each(|value| encode_value(value, out));
        }
    }
}

/// Lengths above `u32::MAX` are far beyond the limits of a rule; they would only weaken the hash.
fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Boolean(v) => out.extend([1, u8::from(*v)]),
        Value::Int(v) => {
            out.push(2);
            out.extend(v.to_le_bytes());
        }
        Value::UInt(v) => {
            out.push(3);
            out.extend(v.to_le_bytes());
        }
        Value::Float(v) => {
            out.push(4);
            // NaN's bit pattern is written out, since that of `f64::NAN` is not promised.
            let bits = if v.is_nan() { 0x7ff8_0000_0000_0000 } else { v.to_bits() };
            out.extend(bits.to_le_bytes());
        }
        Value::String(v) => {
            out.push(5);
            encode_count(v.len(), out);
            out.extend(v.as_bytes());
        }
        Value::Binary(v) => {
            out.push(6);
            encode_count(v.len(), out);
            out.extend(v);
        }
        Value::Date(v) => {
            out.push(7);
            out.extend(v.to_le_bytes());
        }
        Value::Timestamp(v) => {
            out.push(8);
            out.extend(v.to_le_bytes());
        }
        Value::Decimal(v) => {
            out.push(9);
            out.extend(v.to_le_bytes());
        }
    }
}
