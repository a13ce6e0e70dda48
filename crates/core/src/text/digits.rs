//! The digits of FLOAT and DOUBLE as Java before 19 chooses them: enough to name the number, but sometimes one more than needed, and
//! of two candidates not always the nearer one. Flink's rows have these digits. Never writes a sign, a point or an exponent.

use std::cmp::Ordering;

/// Digits of a positive number, and the power of ten of the first: `1.25` is `125` and 0.
pub(super) struct Digits {
    /// ASCII.
    pub bytes: [u8; 24],
    /// How many.
    pub len: usize,
    /// Exponent of the first digit.
    pub exponent: i32,
}

impl Digits {
    fn push(&mut self, digit: u64) {
        self.bytes[self.len] = b'0' + digit as u8;
        self.len += 1;
    }

    /// One more in the last place.
    fn round_up(&mut self) {
        while self.len > 1 && self.bytes[self.len - 1] == b'9' {
            self.len -= 1;
        }
        match &mut self.bytes[self.len - 1] {
            last @ b'9' => {
                *last = b'1';
                self.exponent += 1;
            }
            last => *last += 1,
        }
    }
}

/// Bits of a DOUBLE's significand behind its first one.
const FRACTION_BITS: i32 = 52;

/// The digits of a finite DOUBLE above 0.
pub(super) fn of_double(value: f64) -> Digits {
    let bits = value.to_bits();
    of(bits & ((1 << FRACTION_BITS) - 1), (bits >> FRACTION_BITS) as i32 & 0x7ff, 1023, FRACTION_BITS)
}

/// The digits of a finite FLOAT above 0.
pub(super) fn of_float(value: f32) -> Digits {
    let bits = value.to_bits();
    of(u64::from(bits & 0x7f_ffff) << (FRACTION_BITS - 23), (bits >> 23) as i32 & 0xff, 127, 23)
}

fn of(fraction: u64, biased: i32, bias: i32, own_bits: i32) -> Digits {
    if biased > 0 {
        return digits(fraction | 1 << FRACTION_BITS, biased - bias, own_bits + 1);
    }
    // A subnormal number has as many significant bits as there are.
    let shift = fraction.leading_zeros() as i32 - (63 - FRACTION_BITS);
    digits(fraction << shift, 1 - bias - shift, own_bits + 1 - shift)
}

/// Of `fraction` × 2^(`exponent` − 52), of which so many bits are significant.
fn digits(fraction: u64, exponent: i32, significant: i32) -> Digits {
    let fraction_bits = FRACTION_BITS + 1 - fraction.trailing_zeros() as i32;
    let tiny_bits = (fraction_bits - exponent - 1).max(0);
    if tiny_bits == 0 && (-21..=62).contains(&exponent) && fraction_bits < 64 {
        return of_integer(fraction, exponent, significant);
    }
    let guess = decimal_exponent(fraction, exponent);
    let (five_b, five_s) = ((-guess).max(0), guess.max(0));
    let (mut two_b, mut two_s) = (five_b + tiny_bits + exponent, five_s + tiny_bits);
    let mut two_m = two_b - significant;
    let fraction = fraction >> fraction.trailing_zeros();
    two_b -= fraction_bits - 1;
    let common = two_b.min(two_s);
    (two_b, two_s, two_m) = (two_b - common, two_s - common, two_m - common);
    // The gap below a power of two is half of that above.
    if fraction_bits == 1 {
        two_m -= 1;
    }
    if two_m < 0 {
        (two_b, two_s, two_m) = (two_b - two_m, two_s - two_m, 0);
    }
    let b_bits = fraction_bits + two_b + bits_of_five(five_b);
    let ten_s_bits = two_s + 1 + bits_of_five(five_s + 1);
    let mut out = Digits { bytes: [0; 24], len: 0, exponent: guess };
    if b_bits < 64 && ten_s_bits < 64 {
        let power = |fives: i32, twos: i32| 5u64.pow(fives as u32) << twos;
        let division = Small {
            b: fraction.wrapping_mul(5u64.pow(five_b as u32)) << two_b,
            s: power(five_s, two_s),
            m: power(five_b, two_m),
        };
        generate(division, &mut out);
    } else {
        let mut division = Large { b: Big::of(fraction), s: Big::of(1), m: Big::of(1), round: Big::of(0) };
        division.b.scale(five_b, two_b);
        division.s.scale(five_s, two_s);
        division.m.scale(five_b, two_m);
        generate(division, &mut out);
    }
    out
}

/// A whole number: its digits, without those that are not significant.
fn of_integer(fraction: u64, exponent: i32, significant: i32) -> Digits {
    let mut value = if exponent >= FRACTION_BITS {
        fraction << (exponent - FRACTION_BITS)
    } else {
        fraction >> (FRACTION_BITS - exponent)
    };
    let free = exponent - significant - 1;
    let mut out = Digits { bytes: [0; 24], len: 0, exponent: 0 };
    if exponent > significant && free > 1 {
        let dropped = (1u64 << free).ilog10();
        let power = 10u64.pow(dropped);
        value = value / power + u64::from(dropped > 0 && value % power >= power / 2);
        out.exponent = dropped as i32;
    }
    out.exponent += value.ilog10() as i32;
    while value % 10 == 0 {
        value /= 10;
    }
    let mut place = 10u64.pow(value.ilog10());
    while place > 0 {
        out.push(value / place % 10);
        place /= 10;
    }
    out
}

/// The power of ten of the first digit, or one too many.
fn decimal_exponent(fraction: u64, exponent: i32) -> i32 {
    let mantissa = f64::from_bits(1023 << FRACTION_BITS | fraction & ((1 << FRACTION_BITS) - 1));
    let estimate = (mantissa - 1.5) * 0.289_529_654 + 0.176_091_259 + f64::from(exponent) * std::f64::consts::LOG10_2;
    estimate.floor() as i32
}

/// Bits that 5^n takes, at most.
fn bits_of_five(n: i32) -> i32 {
    if n < 27 { if n == 0 { 0 } else { 64 - 5u64.pow(n as u32).leading_zeros() as i32 } } else { n * 3 }
}

/// Digit by digit `b / s`, until what is left is below the gap `m` to the next number.
trait Division {
    /// The next digit.
    fn digit(&mut self) -> u64;
    /// The gap in the next place, after a digit other than the first.
    fn widen(&mut self);
    /// Whether what is left is within the gap from below, and from above.
    fn near(&self) -> (bool, bool);
    /// What is left, twice, against one in the last place.
    fn half(&self) -> Ordering;
}

fn generate(mut division: impl Division, out: &mut Digits) {
    let first = division.digit();
    division.widen();
    let (mut low, mut high) = division.near();
    match first == 0 && !high {
        true => out.exponent -= 1,
        false => out.push(first),
    }
    // In scientific notation there are two digits at least.
    if out.exponent < -3 || out.exponent >= 8 {
        (low, high) = (false, false);
    }
    while !low && !high {
        let digit = division.digit();
        division.widen();
        (low, high) = division.near();
        out.push(digit);
    }
    let odd = out.bytes[out.len - 1] & 1 == 1;
    let up = high
        && (!low
            || match division.half() {
                Ordering::Less => false,
                Ordering::Equal => odd,
                Ordering::Greater => true,
            });
    if up {
        out.round_up();
    }
    while out.len > 1 && out.bytes[out.len - 1] == b'0' {
        out.len -= 1;
    }
}

/// Numbers that fit into machine words.
struct Small {
    b: u64,
    s: u64,
    m: u64,
}

impl Division for Small {
    fn digit(&mut self) -> u64 {
        let digit = self.b / self.s;
        self.b = 10 * (self.b % self.s);
        digit
    }
    fn widen(&mut self) {
        self.m = self.m.wrapping_mul(10);
    }
    fn near(&self) -> (bool, bool) {
        // A gap beyond the machine word is wider than everything.
        match self.m as i64 > 0 {
            true => (self.b < self.m, self.b.wrapping_add(self.m) as i64 > (self.s * 10) as i64),
            false => (true, true),
        }
    }
    fn half(&self) -> Ordering {
        (self.b << 1).cmp(&(self.s * 10))
    }
}

/// Numbers of any size; a DOUBLE needs some 1,100 bits.
struct Large {
    b: Big,
    s: Big,
    m: Big,
    round: Big,
}

impl Division for Large {
    fn digit(&mut self) -> u64 {
        let mut digit = 0;
        while self.b.compare(&self.s) != Ordering::Less {
            self.b.subtract(&self.s);
            digit += 1;
        }
        self.b.multiply(10);
        digit
    }
    fn widen(&mut self) {
        self.m.multiply(10);
        self.round = self.b.clone();
        self.round.add(&self.m);
    }
    fn near(&self) -> (bool, bool) {
        let mut tens = self.s.clone();
        tens.multiply(10);
        (self.b.compare(&self.m) == Ordering::Less, self.round.compare(&tens) != Ordering::Less)
    }
    fn half(&self) -> Ordering {
        let (mut twice, mut tens) = (self.b.clone(), self.s.clone());
        twice.multiply(2);
        tens.multiply(10);
        twice.compare(&tens)
    }
}

/// A whole number; the lowest word first, none of them 0 at the end.
#[derive(Clone)]
struct Big(Vec<u32>);

impl Big {
    fn of(value: u64) -> Self {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
    fn multiply(&mut self, by: u32) {
        let mut carry = 0u64;
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(by);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }
    /// Times 5^`fives` × 2^`twos`.
    fn scale(&mut self, fives: i32, twos: i32) {
        for _ in 0..fives / 13 {
            self.multiply(1_220_703_125);
        }
        self.multiply(5u32.pow(fives as u32 % 13));
        self.multiply(1 << (twos % 32));
        self.0.splice(0..0, std::iter::repeat_n(0, twos as usize / 32));
    }
    fn add(&mut self, other: &Big) {
        let mut carry = 0u64;
        for i in 0..self.0.len().max(other.0.len()) {
            if i == self.0.len() {
                self.0.push(0);
            }
            carry += u64::from(self.0[i]) + u64::from(other.0.get(i).copied().unwrap_or(0));
            self.0[i] = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }
    /// Minus a number that is not greater.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0i64;
        for (i, word) in self.0.iter_mut().enumerate() {
            borrow += i64::from(*word) - i64::from(other.0.get(i).copied().unwrap_or(0));
            *word = borrow as u32;
            borrow >>= 32;
        }
        self.trim();
    }
    fn compare(&self, other: &Big) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}
