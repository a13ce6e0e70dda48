//! Derives for `flott`. Expands to code that names only `::flott`; decides nothing at run time.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, parse_macro_input};

/// Derives `flott::Record` for a struct with named fields: one column a field, in order. Field types are those that implement
/// `flott::FieldType`; `Option` makes a column nullable.
#[proc_macro_derive(Record)]
pub fn record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    let fields = match &input.data {
        Data::Struct(s) => match &s.fields {
            Fields::Named(fields) => &fields.named,
            _ => return error(name, "Record needs a struct with named fields: they name the columns"),
        },
        _ => return error(name, "Record needs a struct with named fields"),
    };
    if !input.generics.params.is_empty() {
        return error(name, "Record needs a struct without parameters: its columns are fixed");
    }
    let idents: Vec<_> = fields.iter().filter_map(|f| f.ident.as_ref()).collect();
    let types: Vec<_> = fields.iter().map(|f| &f.ty).collect();
    let names: Vec<_> = idents.iter().map(|i| i.to_string().trim_start_matches("r#").to_owned()).collect();
    if idents.is_empty() {
        return error(name, "Record needs at least one field: a row without columns is no row");
    }
    let places: Vec<_> = (0..idents.len()).collect();
    // Names of their own: a field may be called `rows`.
    let columns: Vec<_> = places.iter().map(|i| quote::format_ident!("column_{i}")).collect();
    quote! {
        impl ::flott::Record for #name {
            fn columns() -> ::std::vec::Vec<::flott::Column> {
                ::std::vec![#(::flott::Column::new(#names, <#types as ::flott::FieldType>::data_type())),*]
            }
            fn to_arrays(rows: &[Self]) -> ::std::vec::Vec<::flott::ArrayRef> {
                ::std::vec![#(<#types as ::flott::FieldType>::to_array(&mut rows.iter().map(|r| &r.#idents))),*]
            }
            fn from_arrays(arrays: &[::flott::ArrayRef]) -> ::flott::Result<::std::vec::Vec<Self>> {
                let length = arrays.first().map_or(0, |a| ::flott::array_len(a));
                #(let mut #columns = <#types as ::flott::FieldType>::from_array(&arrays[#places], #names)?.into_iter();)*
                let mut all = ::std::vec::Vec::with_capacity(length);
                for _ in 0..length {
                    all.push(#name { #(#idents: ::flott::next_field(&mut #columns)?),* });
                }
                ::std::result::Result::Ok(all)
            }
        }
    }
    .into()
}

fn error(name: &syn::Ident, message: &str) -> TokenStream {
    syn::Error::new(name.span(), message).to_compile_error().into()
}
