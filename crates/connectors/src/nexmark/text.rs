//! The strings of Nexmark: names, addresses, channels and padding, from tables made once per source; no allocation per event.

use super::model::Draw;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Channels besides the hot ones.
const CHANNELS: u32 = 10_000;
/// Half of all bids come through hot channels.
const HOT_CHANNEL_RATIO: u32 = 2;
/// Bytes of padding to cut from; a power of two that stays in the cache.
const PADDING_BYTES: usize = 1 << 16;
/// Longest padding of one event.
pub(super) const EXTRA_BYTES_MAX: usize = PADDING_BYTES / 2;

/// A string column under construction: values back to back and their ends.
pub(super) struct Strings {
    pub(super) data: Vec<u8>,
    pub(super) offsets: Vec<i32>,
}

impl Strings {
    pub(super) fn new(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Strings { data: Vec::with_capacity(bytes), offsets }
    }
    /// Ends the value whose bytes were appended since the last one.
    #[inline]
    pub(super) fn finish(&mut self) {
        // A batch is bounded by rows and by the longest value, far below 2 GiB.
        self.offsets.push(self.data.len() as i32);
    }
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.finish();
    }
    /// Values up to row `rows` are empty: NULL, or not there.
    #[inline]
    pub(super) fn pad_to(&mut self, rows: usize) {
        self.offsets.resize(rows + 1, self.data.len() as i32);
    }
    /// Bytes of the value that is being built.
    #[inline]
    pub(super) fn open_len(&self) -> usize {
        self.data.len() - self.offsets.last().map_or(0, |o| *o as usize)
    }
}

/// Letters with a special character in one of 13 places, drawn a byte each.
type Alphabet = [u8; 256];

fn alphabet(special: u8) -> Alphabet {
    std::array::from_fn(|i| if i < 20 { special } else { b'a' + ((i - 20) * 26 / 236) as u8 })
}

/// Tables of strings that all events of a source share.
pub(super) struct Texts {
    spaced: Alphabet,
    padding: Vec<u8>,
    /// Channels, the hot ones first, and the URL of each.
    channels: Strings,
    urls: Strings,
}

impl Texts {
    /// The tables under `seed`.
    pub(super) fn new(seed: u64) -> Self {
        // Event numbers are below this, so tables and events never share numbers.
        let mut draw = Draw::new(seed, u64::MAX);
        let letters: Alphabet = std::array::from_fn(|i| b'a' + (i * 26 / 256) as u8);
        let padding =
            (0..PADDING_BYTES / 8).flat_map(|_| draw.bits().to_le_bytes().map(|b| letters[b as usize])).collect();
        let underscored = alphabet(b'_');
        let (mut channels, mut urls) = (Strings::new(CHANNELS as usize + 4, 0), Strings::new(CHANNELS as usize + 4, 0));
        for hot in HOT_CHANNELS {
            channels.push(hot.as_bytes());
            push_base_url(&underscored, &mut draw, &mut urls);
            urls.finish();
        }
        for i in 0..CHANNELS {
            channels.push(format!("channel-{i}").as_bytes());
            push_base_url(&underscored, &mut draw, &mut urls);
            if draw.below(10) > 0 {
                let id = i64::from(i.reverse_bits() as i32).abs();
                urls.data.extend_from_slice(format!("&channel_id={id}").as_bytes());
            }
            urls.finish();
        }
        Texts { spaced: alphabet(b' '), padding, channels, urls }
    }
    /// Appends a channel and its URL.
    #[inline]
    pub(super) fn push_channel(&self, draw: &mut Draw, channel: &mut Strings, url: &mut Strings) {
        let hot = draw.below(HOT_CHANNEL_RATIO) > 0;
        let i = if hot { draw.below(4) as usize } else { 4 + draw.below(CHANNELS) as usize };
        channel.push(value(&self.channels, i));
        url.push(value(&self.urls, i));
    }
    /// Appends padding that brings an event of `size` bytes to `average` on average.
    #[inline]
    pub(super) fn push_extra(&self, size: usize, average: usize, draw: &mut Draw, extra: &mut Strings) {
        if size <= average {
            let wanted = average - size;
            let delta = (wanted + 2) / 5;
            let len = wanted - delta + if delta == 0 { 0 } else { draw.below(2 * delta as u32) as usize };
            let at = draw.below((PADDING_BYTES - len) as u32) as usize;
            extra.data.extend_from_slice(&self.padding[at..at + len]);
        }
        extra.finish();
    }
    /// Appends a random string of 3 to `max - 1` characters, without spaces around it, to an open value.
    #[inline]
    pub(super) fn push_words(&self, max: u32, draw: &mut Draw, out: &mut Strings) {
        let start = out.data.len();
        push_random(&self.spaced, max, draw, out);
        let value = out.data[start..].trim_ascii();
        let (len, skip) = (value.len(), out.data[start..].len() - out.data[start..].trim_ascii_start().len());
        // All spaces is rare, and then the trimmed value starts nowhere in particular.
        if len > 0 && skip > 0 {
            out.data.copy_within(start + skip..start + skip + len, start);
        }
        out.data.truncate(start + len);
    }
    /// Appends name, e-mail address, credit card, city and state of a person.
    pub(super) fn push_person(&self, draw: &mut Draw, columns: [&mut Strings; 5]) {
        let [name, email, card, city, state] = columns;
        name.data.extend_from_slice(pick(&FIRST_NAMES, draw));
        name.data.push(b' ');
        name.push(pick(&LAST_NAMES, draw));
        self.push_words(7, draw, email);
        email.data.push(b'@');
        self.push_words(5, draw, email);
        email.push(b".com");
        for i in 0..4 {
            if i > 0 {
                card.data.push(b' ');
            }
            let n = draw.below(10_000);
            card.data.extend([n / 1000, n / 100 % 10, n / 10 % 10, n % 10].map(|d| b'0' + d as u8));
        }
        card.finish();
        city.push(pick(&CITIES, draw));
        state.push(pick(&STATES, draw));
    }
}

fn pick<'a>(values: &[&'a str], draw: &mut Draw) -> &'a [u8] {
    values[draw.below(values.len() as u32) as usize].as_bytes()
}

#[inline]
fn value(strings: &Strings, i: usize) -> &[u8] {
    &strings.data[strings.offsets[i] as usize..strings.offsets[i + 1] as usize]
}

/// Appends 3 to `max - 1` characters, eight to a draw.
fn push_random(alphabet: &Alphabet, max: u32, draw: &mut Draw, out: &mut Strings) {
    let end = out.data.len() + 3 + draw.below(max - 3) as usize;
    while out.data.len() < end {
        out.data.extend_from_slice(&draw.bits().to_le_bytes().map(|b| alphabet[b as usize]));
    }
    out.data.truncate(end);
}

fn push_base_url(alphabet: &Alphabet, draw: &mut Draw, out: &mut Strings) {
    out.data.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        push_random(alphabet, 5, draw, out);
        out.data.push(b'/');
    }
    out.data.extend_from_slice(b"item.htm?query=1");
}
