//! Values of operators and functions, as constants and as columns.

use crate::testing::check;

#[test]
fn arithmetic_wraps_and_follows_flinks_decimals() {
    check(
        "
        1 + 2 * 3 => 7
        7 / 2 => 3
        -7 / 2 => -3
        -7 % 3 => -1
        MOD(7, 3) => 1
        2147483647 + 1 => -2147483648
        9223372036854775807 + 1 => -9223372036854775808
        CAST(127 AS TINYINT) + CAST(1 AS TINYINT) => -128
        CAST(-2147483648 AS INT) / -1 => -2147483648
        1 / 0 => error: division by zero
        1 % 0 => error: division by zero
        1.0 / 0 => error: division by zero
        1 / CAST(NULL AS INT) => NULL
        CAST(NULL AS INT) / 0 => NULL
        1e0 / 0 => Infinity
        0e0 / 0 => NaN
        1 / 2e0 => 0.5
        -(5) => -5
        - 2 + 3 => 1
        # DECIMAL: all digits of the scale are shown; an overflow is NULL.
        0.908 * CAST(140 AS BIGINT) => 127.120
        1.1 + 2.22 => 3.32
        1.1 - 2.22 => -1.12
        1.0 / 3 => 0.333333333333
        -1.0 / 6 => -0.166666666667
        5.5 % 2 => 1.5
        -5.5 % 2 => -1.5
        CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) + 1 => NULL
        CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) * 10 => NULL
        CAST('12345678901234567890.123456789' AS DECIMAL(38, 9)) * CAST('2' AS DECIMAL(38, 9)) => 24691357802469135780.246914
        1 + NULL => NULL
        ",
    );
}

#[test]
fn comparisons_and_three_valued_logic() {
    check(
        "
        1 < 2 => TRUE
        1 = 1.0 => TRUE
        1.10 = 1.1 => TRUE
        1.2 > 1.15 => TRUE
        'a' < 'b' => TRUE
        'B' < 'a' => TRUE
        'ab' <> 'ab' => FALSE
        '5' = 5 => TRUE
        DATE '2024-01-02' > '2024-01-01' => TRUE
        TIMESTAMP '2024-01-01 00:00:00' = DATE '2024-01-01' => TRUE
        1 = NULL => NULL
        # Java's doubles, not a total order.
        (0e0 / 0) = (0e0 / 0) => FALSE
        -0e0 = 0e0 => TRUE
        NULL AND FALSE => FALSE
        NULL AND TRUE => NULL
        NULL OR TRUE => TRUE
        NULL OR FALSE => NULL
        NOT CAST(NULL AS BOOLEAN) => NULL
        TRUE AND FALSE OR TRUE => TRUE
        CAST(NULL AS INT) IS NULL => TRUE
        1 IS NOT NULL => TRUE
        CAST(NULL AS BOOLEAN) IS TRUE => FALSE
        CAST(NULL AS BOOLEAN) IS NOT TRUE => TRUE
        FALSE IS FALSE => TRUE
        TRUE IS NOT FALSE => TRUE
        CAST(NULL AS BOOLEAN) IS UNKNOWN => TRUE
        TRUE IS NOT UNKNOWN => TRUE
        1 IS DISTINCT FROM NULL => TRUE
        CAST(NULL AS INT) IS NOT DISTINCT FROM NULL => TRUE
        1 IS NOT DISTINCT FROM 2 => FALSE
        # The right side is not evaluated where the left decides.
        1 = 2 AND 1 / 0 = 1 => FALSE
        1 = 1 OR 1 / 0 = 1 => TRUE
        1 = 1 AND 1 / 0 = 1 => error: division by zero
        ",
    );
}

#[test]
fn conditionals() {
    check(
        "
        CASE WHEN 1 = 2 THEN 'a' WHEN 1 = 1 THEN 'bb' ELSE 'c' END => bb
        CASE WHEN 1 = 2 THEN 1 END => NULL
        CASE WHEN CAST(NULL AS BOOLEAN) THEN 1 ELSE 2.5 END => 2.5
        CASE WHEN 1 = 1 THEN 1 ELSE 1 / 0 END => 1
        COALESCE(NULL, 2, 1 / 0) => 2
        COALESCE(CAST(NULL AS INT), CAST(NULL AS INT)) => NULL
        IFNULL(CAST(NULL AS STRING), 'x') => x
        NULLIF(1, 1) => NULL
        NULLIF(1, 2) => 1
        IF(1 < 2, 'yes', 'no') => yes
        GREATEST(1, 3, 2) => 3
        LEAST(1.5, 1, 2) => 1.0
        GREATEST('a', 'c', 'b') => c
        GREATEST(1, NULL) => NULL
        ",
    );
}

#[test]
fn numeric_functions() {
    check(
        "
        ABS(-5) => 5
        ABS(-1.5) => 1.5
        SIGN(-3) => -1
        SIGN(2.50) => 1.00
        SQRT(16) => 4.0
        POWER(2, 10) => 1024.0
        EXP(0) => 1.0
        LN(1) => 0.0
        LOG10(1000) => 3.0
        LOG2(8) => 3.0
        LOG(2, 8) => 3.0
        FLOOR(-1.5) => -2
        CEIL(-1.5) => -1
        FLOOR(1.7e0) => 1.0
        CEILING(1.2e0) => 2.0
        FLOOR(5) => 5
        ROUND(2.675e0, 2) => 2.68
        ROUND(-2.5e0) => -3.0
        ROUND(2.345, 2) => 2.35
        ROUND(1234, -2) => 1200
        ROUND(1250, -2) => 1300
        ROUND(12.34, 5) => 12.34
        TRUNCATE(42.345, 2) => 42.34
        TRUNCATE(-42.999e0) => -42.0
        ABS(CAST(NULL AS INT)) => NULL
        ",
    );
}

#[test]
fn text_functions() {
    check(
        "
        'a' || 'b' || 'c' => abc
        'a' || CAST(NULL AS STRING) => NULL
        CONCAT('x', 'y', 'z') => xyz
        CONCAT_WS('-', 'a', CAST(NULL AS STRING), 'b') => a-b
        UPPER('aß1é') => ASS1É
        LOWER('ÀB') => àb
        INITCAP('hello wORLD-x') => Hello World-X
        CHAR_LENGTH('naïve') => 5
        CHARACTER_LENGTH('') => 0
        SUBSTRING('flink', 2, 3) => lin
        SUBSTR('flink', 3) => ink
        SUBSTRING('flink', -3, 2) => in
        SUBSTRING('flink', -9) => 
        SUBSTRING('flink', 2, -1) => NULL
        SUBSTRING('naïve', 3, 2) => ïv
        TRIM('  x ') => x
        TRIM('xxaxx', 'x') => a
        LTRIM('xxaxx', 'x') => axx
        RTRIM('xxaxx', 'x') => xxa
        POSITION('in', 'flink') => 3
        POSITION('zz', 'flink') => 0
        LOCATE('l', 'hello', 4) => 4
        LOCATE('l', 'hello', 5) => 0
        INSTR('hello', 'lo') => 4
        REPLACE('banana', 'an', 'x') => bxxa
        REVERSE('abc') => cba
        REPEAT('ab', 3) => ababab
        REPEAT('ab', -1) => 
        LPAD('7', 3, '0') => 007
        LPAD('hello', 2, 'x') => he
        LPAD('x', -1, 'y') => NULL
        RPAD('ab', 5, 'xy') => abxyx
        REPEAT('abc', 2147483647) => error: REPEAT would make a text of 6442450941 bytes
        LPAD('x', 2147483647, 'y') => error: would make a text of
        LEFT('hello', 2) => he
        RIGHT('hello', 2) => lo
        RIGHT('hi', 9) => hi
        OVERLAY('xxxxx', 'abc', 2) => xabcx
        SPLIT_INDEX('https://a/b/c', '/', 3) => b
        SPLIT_INDEX('a,b', ',', 0) => a
        SPLIT_INDEX('a,b', ',', 2) => NULL
        SPLIT_INDEX('a,,b', ',', 1) => 
        SPLIT_INDEX('a::b::c', '::', 2) => c
        SPLIT_INDEX('a', ',', -1) => NULL
        SPLIT_INDEX('', ',', 0) => NULL
        STARTSWITH('flink', 'fl') => TRUE
        ENDSWITH('flink', 'k') => TRUE
        ASCII('abc') => 97
        CHR(65) => A
        ",
    );
}

#[test]
fn patterns() {
    check(
        "
        'hello' LIKE 'he%' => TRUE
        'hello' LIKE '%llo' => TRUE
        'hello' LIKE '%ll%' => TRUE
        'hello' LIKE 'h_l%o' => TRUE
        'hello' LIKE 'hello' => TRUE
        'hello' LIKE '_ello_' => FALSE
        'aXbXc' LIKE '%X%X_' => TRUE
        'abcabd' LIKE '%ab_d' => FALSE
        'naïve' LIKE 'na_ve' => TRUE
        'hello' NOT LIKE 'x%' => TRUE
        # There is no escape character unless one is given.
        'a\\b' LIKE 'a\\b' => TRUE
        '10%' LIKE '10!%' ESCAPE '!' => TRUE
        '100' LIKE '10!%' ESCAPE '!' => FALSE
        'a' LIKE 'a!' ESCAPE '!' => error: invalid escape sequence
        '' LIKE '%' => TRUE
        CAST(NULL AS STRING) LIKE 'a' => NULL
        REGEXP('foobar', 'o+b') => TRUE
        REGEXP_EXTRACT('https://x/?a=1&channel_id=abc&z', '(&|^)channel_id=([^&]*)', 2) => abc
        REGEXP_EXTRACT('none', 'a(b)', 1) => NULL
        REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 0) => foothebar
        REGEXP_REPLACE('foobar', 'oo|ar', '$1') => f$1b$1
        REGEXP('x', '(') => FALSE
        ",
    );
}

#[test]
fn mistakes_are_explained() {
    check(
        "
        UPER('a') => error: did you mean UPPER?
        UPPER(1) => error: cannot apply UPPER to arguments of types (INT); expected UPPER(STRING)
        UPPER('a', 'b') => error: expected UPPER(STRING)
        1 + TRUE => error: cannot apply '+' to arguments of types (INT, BOOLEAN)
        TRUE < 1 => error: cannot apply '<'
        'a' || 1 => error: CAST the other values to STRING
        CASE WHEN 1 THEN 2 END => error: WHEN takes a BOOLEAN
        CASE WHEN TRUE THEN 2 ELSE 'x' END => error: no common type
        EXTRACT('FORTNIGHT', DATE '2024-01-01') => error: FORTNIGHT is not a unit
        CAST(1 AS TIMESTAMP(3)) => error: use TO_TIMESTAMP_LTZ
        CAST(TRUE AS DATE) => error: cannot cast BOOLEAN to DATE
        ",
    );
}
