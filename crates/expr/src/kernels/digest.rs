//! MD5 and the SHA family, as hexadecimal text.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::Int32Type;
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::Compiled;
use super::lift::{primitive, rows_text, text};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "MD5" => digest(hash::<Md5>),
        "SHA1" => digest(hash::<Sha1>),
        "SHA224" => digest(hash::<Sha224>),
        "SHA256" => digest(hash::<Sha256>),
        "SHA384" => digest(hash::<Sha384>),
        "SHA512" => digest(hash::<Sha512>),
        "SHA2" => Compiled::partial(sha2),
        _ => return Ok(None),
    }))
}

fn hash<D: Digest>(s: &str, out: &mut String) {
    for b in D::digest(s.as_bytes()).as_slice() {
        for digit in [b >> 4, b & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

fn digest(f: fn(&str, &mut String)) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let out = rows_text(&[&args[0]], n, |i, out| {
            f(source.value(i & m), out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

fn sha2(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let (lengths, k) = (primitive::<Int32Type>(&args[1])?, args[1].row_mask());
    let out = rows_text(&[&args[0], &args[1]], rows, |i, out| {
        let f = match lengths.value(i & k) {
            224 => hash::<Sha224>,
            256 => hash::<Sha256>,
            384 => hash::<Sha384>,
            512 => hash::<Sha512>,
            other => {
                return Err(super::data_error(format!("SHA2 does not make {other} bits"))
                    .detail("expected 224, 256, 384 or 512"));
            }
        };
        f(source.value(i & m), out);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}
