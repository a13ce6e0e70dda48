//! CAST and TRY_CAST: Java's numbers, Flink's text forms.

use crate::testing::check;

#[test]
fn numbers() {
    check(
        "
        CAST(300 AS TINYINT) => 44
        CAST(3000000000 AS INT) => -1294967296
        CAST(1.9e0 AS INT) => 1
        CAST(-1.9e0 AS BIGINT) => -1
        CAST(1e30 AS INT) => 2147483647
        CAST(0e0 / 0 AS INT) => 0
        CAST(2.55 AS DECIMAL(3, 1)) => 2.6
        CAST(-2.55 AS DECIMAL(3, 1)) => -2.6
        CAST(123.45 AS DECIMAL(4, 2)) => NULL
        CAST(1.99 AS INT) => 1
        CAST(1.1e0 AS DECIMAL(5, 3)) => 1.100
        CAST(5 AS DECIMAL(5, 2)) => 5.00
        CAST(1.5 AS DOUBLE) => 1.5
        CAST(0.1 AS FLOAT) => 0.1
        CAST(TRUE AS INT) => 1
        CAST(FALSE AS DOUBLE) => 0.0
        CAST(2 AS BOOLEAN) => TRUE
        CAST(0.0 AS BOOLEAN) => FALSE
        ",
    );
}

#[test]
fn from_text() {
    check(
        "
        CAST(' 42 ' AS INT) => 42
        CAST('1.9' AS INT) => 1
        CAST('-7' AS TINYINT) => -7
        CAST('300' AS TINYINT) => error: cannot cast '300' to TINYINT
        CAST('x' AS INT) => error: cannot cast 'x' to INT
        TRY_CAST('x' AS INT) => NULL
        TRY_CAST('12' AS INT) => 12
        CAST('1e3' AS DOUBLE) => 1000.0
        CAST('inf' AS DOUBLE) => error: cannot cast 'inf' to DOUBLE
        CAST('NaN' AS DOUBLE) => NaN
        CAST('1.005' AS DECIMAL(5, 2)) => 1.01
        CAST('1e2' AS DECIMAL(5, 2)) => 100.00
        CAST('1234' AS DECIMAL(3, 0)) => error: cannot cast '1234' to DECIMAL(3, 0)
        TRY_CAST('1234' AS DECIMAL(3, 0)) => NULL
        CAST('1.2.3' AS DECIMAL(5, 2)) => error: cannot cast
        CAST('Yes' AS BOOLEAN) => TRUE
        CAST('f' AS BOOLEAN) => FALSE
        CAST('maybe' AS BOOLEAN) => error: expected TRUE or FALSE
        CAST('2024-02-29' AS DATE) => 2024-02-29
        CAST('2023-02-29' AS DATE) => error: expected yyyy-MM-dd
        CAST('12:34:56.789' AS TIME(3)) => 12:34:56.789
        CAST('2024-01-01 10:00:00.1234' AS TIMESTAMP(3)) => 2024-01-01 10:00:00.123
        CAST('2024-1-2 3:4:5.' AS TIMESTAMP(3)) => 2024-01-02 03:04:05.000
        CAST('2024-02-30' AS TIMESTAMP(3)) => 2024-02-29 00:00:00.000
        CAST('2024-02-03 24:00:00' AS TIMESTAMP(3)) => 2024-02-04 00:00:00.000
        TRY_CAST('2024-01-01 24:00:01' AS TIMESTAMP(3)) => NULL
        TRY_CAST('2024-01-01 10:00' AS TIMESTAMP(3)) => NULL
        TRY_CAST('2024-01-01T10:00:00' AS TIMESTAMP(3)) => NULL
        TRY_CAST(' 2024-01-01' AS TIMESTAMP(3)) => NULL
        TRY_CAST('24-01-01' AS TIMESTAMP(3)) => NULL
        TRY_CAST('2024-01-01 10:00:00.1234567891' AS TIMESTAMP(3)) => NULL
        TRY_CAST('2024-02-03 x' AS DATE) => 2024-02-03
        TRY_CAST('2024-02-03T10:00:00' AS DATE) => NULL
        TRY_CAST('10000-01-01' AS DATE) => NULL
        TRY_CAST('12' AS TIME) => 12:00:00
        TRY_CAST('12:30:15.' AS TIME) => 12:30:15
        TRY_CAST('12:30.5' AS TIME) => NULL
        TRY_CAST('7.9' AS TIME) => NULL
        TRY_CAST('12:30:' AS TIME) => NULL
        TRY_CAST('24:00:00' AS TIME) => NULL
        CAST('nonsense' AS TIMESTAMP(3)) => error: cannot cast 'nonsense' to TIMESTAMP(3)
        TRY_CAST('nonsense' AS TIMESTAMP(3)) => NULL
        CAST(CAST('añb' AS BYTES) AS STRING) => añb
        ",
    );
}

#[test]
fn to_text() {
    check(
        "
        CAST(TRUE AS STRING) => TRUE
        CAST(-5 AS STRING) => -5
        CAST(1e10 AS STRING) => 1.0E10
        CAST(0.5e0 AS STRING) => 0.5
        CAST(1.50 AS STRING) => 1.50
        CAST('hello' AS VARCHAR(3)) => hel
        CAST('naïve' AS CHAR(3)) => naï
        CAST('a' AS CHAR(3)) || '|' => a  |
        CAST(DATE '2024-01-05' AS STRING) => 2024-01-05
        CAST(TIMESTAMP '2024-01-05 01:02:03.4' AS STRING) => 2024-01-05 01:02:03.400
        CAST(CAST('2024-01-05 01:02:03.4' AS TIMESTAMP(0)) AS STRING) => 2024-01-05 01:02:03
        CAST(CAST('2024-01-05 01:02:03.4' AS TIMESTAMP(6)) AS STRING) => 2024-01-05 01:02:03.400000
        CAST(INTERVAL '90' MINUTE AS STRING) => +0 01:30:00.000
        CAST(INTERVAL '14' MONTH AS STRING) => +1-02
        ",
    );
}

#[test]
fn instants_meet_local_times_in_the_sessions_zone() {
    // The session's zone is Europe/Berlin; 2024-03-31 has no 02:30, 2024-10-27 has two.
    check(
        "
        CAST(TO_TIMESTAMP_LTZ(0, 3) AS STRING) => 1970-01-01 01:00:00.000
        CAST(TO_TIMESTAMP_LTZ(0, 0) AS TIMESTAMP(3)) => 1970-01-01 01:00:00.000
        CAST(CAST(TIMESTAMP '2024-07-01 12:00:00' AS TIMESTAMP_LTZ(3)) AS STRING) => 2024-07-01 12:00:00.000
        TIMESTAMPDIFF('SECOND', TO_TIMESTAMP_LTZ(0, 3), CAST(TIMESTAMP '1970-01-01 02:00:00' AS TIMESTAMP_LTZ(3))) => 3600
        CAST(CAST(TIMESTAMP '2024-03-31 02:30:00' AS TIMESTAMP_LTZ(3)) AS STRING) => 2024-03-31 03:30:00.000
        CAST(CAST(CAST(TIMESTAMP '2024-10-27 02:30:00' AS TIMESTAMP_LTZ(3)) AS DATE) AS STRING) => 2024-10-27
        EXTRACT('HOUR', TO_TIMESTAMP_LTZ(0, 3)) => 1
        EXTRACT('EPOCH', TO_TIMESTAMP_LTZ(0, 3)) => 3600
        ",
    );
}

#[test]
fn times_before_1970_are_cut_towards_it() {
    check(
        "
        CAST(TIMESTAMP '1969-12-31 23:59:59.999' AS DATE) => 1970-01-01
        CAST(TIMESTAMP '1960-02-29 10:20:30.5' AS TIME) => 10:20:31
        CAST(TIMESTAMP '1969-12-31 23:59:59.999' AS TIMESTAMP(0)) => 1970-01-01 00:00:00
        CAST(TIMESTAMP '1969-12-31 23:59:59.9999' AS TIMESTAMP(3)) => 1969-12-31 23:59:59.999
        CAST(TO_TIMESTAMP_LTZ(-7200001, 3) AS DATE) => 1969-12-31
        ",
    );
}
