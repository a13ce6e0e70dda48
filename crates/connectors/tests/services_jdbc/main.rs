//! The `jdbc` connector on real servers: MariaDB by `FLOTT_TEST_MYSQL`, PostgreSQL by `FLOTT_TEST_POSTGRES`.
#![cfg(feature = "jdbc")]

mod exactly_once;
mod faults;
mod lookup;
mod scan;
mod sink;
mod support;
