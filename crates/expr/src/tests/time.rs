//! Dates, times, intervals and their formats.

use crate::testing::check;

#[test]
fn arithmetic() {
    check(
        "
        TIMESTAMP '2024-01-01 00:00:00' - INTERVAL '4' SECOND => 2023-12-31 23:59:56.000
        TIMESTAMP '2024-01-31 00:00:00' + INTERVAL '1' MONTH => 2024-02-29 00:00:00.000
        INTERVAL '1' DAY + DATE '2024-02-28' => 2024-02-29
        DATE '2024-02-29' + INTERVAL '1' YEAR => 2025-02-28
        TIME '23:30:00' + INTERVAL '1' HOUR => 00:30:00
        TIMESTAMP '2024-01-02 00:00:00' - TIMESTAMP '2024-01-01 12:00:00' => +0 12:00:00.000
        INTERVAL '1' HOUR * 3 => +0 03:00:00.000
        2 * INTERVAL '1' MONTH => +0-02
        INTERVAL '1' DAY + INTERVAL '2' HOUR => +1 02:00:00.000
        INTERVAL '1' DAY / 0 => error: division by zero
        TIMESTAMPDIFF('DAY', DATE '2024-01-01', DATE '2024-03-01') => 60
        TIMESTAMPDIFF('MONTH', TIMESTAMP '2024-01-31 00:00:00', TIMESTAMP '2024-02-28 00:00:00') => 0
        TIMESTAMPDIFF('MONTH', TIMESTAMP '2024-03-31 00:00:00', TIMESTAMP '2024-01-31 00:00:00') => -2
        TIMESTAMPDIFF('HOUR', TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-01 23:59:59') => 23
        TIMESTAMPADD('WEEK', 2, DATE '2024-01-01') => 2024-01-15
        TIMESTAMPADD('HOUR', 1, DATE '2024-01-01') => 2024-01-01 01:00:00.000000
        TIMESTAMPADD('QUARTER', -1, TIMESTAMP '2024-01-31 10:00:00') => 2023-10-31 10:00:00.000
        ",
    );
}

#[test]
fn parts() {
    check(
        "
        EXTRACT('YEAR', DATE '2024-05-06') => 2024
        EXTRACT('MILLISECOND', TIMESTAMP '2024-05-06 07:08:09.123') => 123
        EXTRACT('DAY', INTERVAL '25' HOUR) => 1
        EXTRACT('HOUR', INTERVAL '25' HOUR) => 1
        EXTRACT('YEAR', INTERVAL '14' MONTH) => 1
        EXTRACT('MONTH', INTERVAL '14' MONTH) => 2
        EXTRACT('DAY', INTERVAL '14' MONTH) => error: does not take the unit DAY
        YEAR(DATE '1969-12-31') => 1969
        QUARTER(DATE '2024-05-06') => 2
        MONTH(DATE '2024-05-06') => 5
        WEEK(DATE '2021-01-03') => 53
        WEEK(DATE '2024-12-30') => 1
        DAYOFYEAR(DATE '2024-12-31') => 366
        DAYOFMONTH(DATE '2024-05-06') => 6
        DAYOFWEEK(DATE '2024-05-05') => 1
        HOUR(TIMESTAMP '1969-12-31 23:08:09') => 23
        MINUTE(TIMESTAMP '2024-05-06 07:08:09') => 8
        SECOND(TIMESTAMP '2024-05-06 07:08:09') => 9
        HOUR(TIME '07:08:09') => 7
        FLOOR(TIMESTAMP '2024-05-06 07:08:09', 'HOUR') => 2024-05-06 07:00:00.000
        CEIL(TIMESTAMP '2024-05-06 07:08:09', 'DAY') => 2024-05-07 00:00:00.000
        FLOOR(DATE '2024-05-06', 'MONTH') => 2024-05-01
        CEIL(DATE '2024-05-06', 'YEAR') => 2025-01-01
        FLOOR(DATE '2024-05-08', 'WEEK') => 2024-05-05
        ",
    );
}

#[test]
fn formats() {
    check(
        "
        DATE_FORMAT(TIMESTAMP '2024-05-06 07:08:09.120', 'yyyy-MM-dd HH:mm:ss.SSS') => 2024-05-06 07:08:09.120
        DATE_FORMAT(TIMESTAMP '2024-05-06 07:08:09', 'yyyy-MM-dd') => 2024-05-06
        DATE_FORMAT(TIMESTAMP '2024-05-06 07:08:09', 'HH:mm') => 07:08
        DATE_FORMAT('2024-05-06 17:08:09', 'd/M/yy h:mm a') => 6/5/24 5:08 PM
        DATE_FORMAT(DATE '2024-05-06', 'EEE, dd MMM yyyy ''at'' EEEE MMMM') => Mon, 06 May 2024 at Monday May
        DATE_FORMAT(TIMESTAMP '2024-05-06 07:08:09', 'yyyy-MM-dd''T''HH') => 2024-05-06T07
        DATE_FORMAT(CAST(NULL AS TIMESTAMP(3)), 'yyyy') => NULL
        DATE_FORMAT(DATE '2024-05-06', 'yyyy-bb') => error: unknown letter 'b'
        TO_TIMESTAMP('2024-05-06 07:08:09') => 2024-05-06 07:08:09.000
        TO_TIMESTAMP('06.05.2024 7:08', 'dd.MM.yyyy H:mm') => 2024-05-06 07:08:00.000
        TO_TIMESTAMP('20240506070809', 'yyyyMMddHHmmss') => 2024-05-06 07:08:09.000
        TO_TIMESTAMP('nonsense') => NULL
        TO_TIMESTAMP('2024-13-01', 'yyyy-MM-dd') => NULL
        TO_DATE('2024-05-06') => 2024-05-06
        TO_DATE('May 6, 2024', 'MMM d, yyyy') => 2024-05-06
        UNIX_TIMESTAMP('1970-01-01 01:00:01') => 1
        UNIX_TIMESTAMP('nonsense') => -9223372036854775808
        FROM_UNIXTIME(0) => 1970-01-01 01:00:00
        FROM_UNIXTIME(44, 'HH:mm:ss') => 01:00:44
        CAST(TO_TIMESTAMP_LTZ('2024-05-06 00:00:00') AS STRING) => 2024-05-06 02:00:00.000
        ",
    );
}

#[test]
fn the_clock_comes_from_the_context() {
    check(
        "
        CAST(PROCTIME() AS STRING) => 2026-01-16 00:46:00.953
        CAST(NOW() AS STRING) => 2026-01-16 00:46:00.953
        CAST(CURRENT_TIMESTAMP AS STRING) => 2026-01-16 00:46:00.953
        LOCALTIMESTAMP() => 2026-01-16 00:46:00.953
        CURRENT_DATE => 2026-01-16
        LOCALTIME() => 00:46:00
        UNIX_TIMESTAMP() => 1768520760
        ",
    );
}
