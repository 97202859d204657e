//! Tests of the wire format: committed vectors, strictness, and the finder under random chunkings.

use super::*;

const VECTORS: &str = include_str!("../../tests/vectors/wire-1.txt");

fn nonce() -> Nonce {
    std::array::from_fn(|at| at as u8 + 0xa0)
}

fn request() -> Request<'static> {
    Request {
        nonce: nonce(),
        deadline_ms: 10_000,
        keep_going: true,
        rlimits: vec![
            Rlimit { resource: Resource::Core, value: 0 },
            Rlimit { resource: Resource::OpenFiles, value: 64 },
        ],
        steps: vec![
            Step {
                argv: vec![b"sh", b"-c", b"cat a/b; echo \xff"],
                env: vec![(b"PATH", b"/bin")],
                cwd: b"/sandbox",
                code: None,
            },
            Step {
                argv: vec![b"python3", b"/sandbox/.code-2.py", b"an argument"],
                env: vec![],
                cwd: b"/",
                code: Some(Code { language: b"python", path: b"/sandbox/.code-2.py", source: b"print(1)\n" }),
            },
        ],
        files: vec![File { path: b"a/b", mode: 0o640, content: b"x\0y\n" }],
        stdin: b"in\n",
    }
}

fn trailer() -> Trailer {
    Trailer {
        how: How::NotStarted(2),
        why: Why::Finished,
        step: 1,
        steps_run: 2,
        cpu_us: 1_234,
        peak_memory: 5 << 20,
        oom_kills: 3,
        wall_us: 1_000_000,
        message: b"execve /bin/nope: No such file or directory".to_vec(),
    }
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("armed", Armed { wire_version: 1, init_version: [0, 1, 0], is_pid_1: true }.encode().to_vec()),
        ("request", request().encode().unwrap()),
        ("cancel", cancel().to_vec()),
        ("end", end().to_vec()),
        ("fence-stdout", Fence::Stdout { artifacts: 0 }.encode(&nonce())),
        ("fence-stderr", Fence::Stderr(trailer()).encode(&nonce())),
    ]
}

fn vector(name: &str) -> Vec<u8> {
    let line = VECTORS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap();
    line.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn refusal(body: &[u8]) -> (&'static str, Problem) {
    let error = Request::decode(body).unwrap_err();
    assert!(!error.to_string().is_empty());
    (error.field, error.problem)
}

#[test]
fn what_is_encoded_is_what_the_committed_vectors_say() {
    for (name, bytes) in all() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(VECTORS.lines().any(|line| line == format!("{name}: {hex}")), "{name}: {hex}");
    }
}

#[test]
fn the_committed_vectors_decode_to_what_they_mean() {
    let bytes = vector("request");
    let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
    assert_eq!(header, Header { kind: Kind::Request, length: bytes.len() - HEADER_LEN });
    assert_eq!(Request::decode(&bytes[HEADER_LEN..]).unwrap(), request());
    assert_eq!(Header::decode(vector("cancel").first_chunk().unwrap()).unwrap().kind, Kind::Cancel);
    assert_eq!(Header::decode(vector("end").first_chunk().unwrap()).unwrap().kind, Kind::End);
    assert!(Armed::decode(vector("armed").first_chunk().unwrap()).unwrap().is_pid_1);
}

#[test]
fn a_request_cut_at_any_byte_is_truncated_and_one_with_more_is_refused() {
    let frame = request().encode().unwrap();
    let body = &frame[HEADER_LEN..];
    for length in 0..body.len() {
        let problem = Request::decode(&body[..length]).unwrap_err().problem;
        assert!(matches!(problem, Problem::Truncated(_)), "cut at {length}: {problem:?}");
    }
    let longer = [body, b"!"].concat();
    assert_eq!(refusal(&longer), ("request", Problem::Trailing(1)));
}

#[test]
fn no_single_changed_byte_makes_the_decoder_panic() {
    let frame = request().encode().unwrap();
    let body = &frame[HEADER_LEN..];
    for at in 0..body.len() {
        for value in [0, 1, b'=', b'/', 0x7f, 0xff] {
            let mut changed = body.to_vec();
            changed[at] = value;
            if let Ok(request) = Request::decode(&changed) {
                assert_eq!(&request.encode().unwrap()[HEADER_LEN..], changed, "two encodings of one request");
            }
        }
    }
}

/// What one change to the request of the vectors is refused with, by the encoder.
fn refused(change: impl FnOnce(&mut Request<'static>)) -> (&'static str, Problem) {
    let mut request = request();
    change(&mut request);
    let error = request.encode().unwrap_err();
    (error.field, error.problem)
}

#[test]
fn what_the_kernel_would_misread_is_refused() {
    assert_eq!(refused(|r| r.steps[0].argv[2] = b"a\0b"), ("step argv", Problem::Nul));
    assert_eq!(refused(|r| r.steps[0].env[0].0 = b"A\0"), ("step env name", Problem::Nul));
    assert_eq!(refused(|r| r.steps[0].env[0].1 = b"\0"), ("step env value", Problem::Nul));
    assert_eq!(refused(|r| r.steps[0].cwd = b"/a\0"), ("step cwd", Problem::Nul));
    assert_eq!(refused(|r| r.files[0].path = b"\0"), ("file path", Problem::Nul));
    assert_eq!(refused(|r| r.steps[0].env[0].0 = b"A=B"), ("step env name", Problem::EqualsSign));
    assert_eq!(refused(|r| r.steps[0].env[0].0 = b""), ("step env name", Problem::Empty));
    assert_eq!(refused(|r| r.steps[0].env.push((b"PATH", b""))), ("step env", Problem::Duplicate));
}

#[test]
fn what_is_missing_or_out_of_range_is_refused() {
    assert_eq!(refused(|r| r.deadline_ms = 0), ("deadline", Problem::Value(0)));
    let too_late = MAX_DEADLINE_MS + 1;
    assert_eq!(refused(|r| r.deadline_ms = too_late), ("deadline", Problem::Value(too_late)));
    assert_eq!(refused(|r| r.steps.clear()), ("steps", Problem::Empty));
    assert_eq!(refused(|r| r.steps[1].argv.clear()), ("step argv", Problem::Empty));
    assert_eq!(refused(|r| r.steps[1].argv[0] = b""), ("step argv", Problem::Empty));
    assert_eq!(refused(|r| r.steps[1].cwd = b"tmp"), ("step cwd", Problem::NotAbsolute));
    assert_eq!(refused(|r| r.steps[1].cwd = b""), ("step cwd", Problem::NotAbsolute));
    assert_eq!(refused(|r| r.files[0].mode = 0o4755), ("file mode", Problem::Value(0o4755)));
    assert_eq!(refused(|r| r.rlimits[1] = r.rlimits[0]), ("rlimits", Problem::Duplicate));
    for path in [b"".as_slice(), b"a/", b"/", b"a/../b", b"..", b".", b"a/."] {
        assert_eq!(refused(|r| r.files[0].path = path), ("file path", Problem::NotPlain));
    }
}

#[test]
fn what_is_too_big_is_refused_before_it_is_allocated() {
    let body = vec![0; MAX_BODY];
    let error = Request { stdin: &body, ..request() }.encode().unwrap_err();
    assert!(matches!(error.problem, Problem::TooLong { .. }), "{error}");
    let mut header = Header { kind: Kind::Request, length: MAX_BODY + 1 }.encode();
    let too_long = Problem::TooLong { length: MAX_BODY as u64 + 1, limit: MAX_BODY as u64 };
    assert_eq!(Header::decode(&header).unwrap_err().problem, too_long);
    header = Header { kind: Kind::End, length: 1 }.encode();
    assert_eq!(Header::decode(&header).unwrap_err().problem, Problem::TooLong { length: 1, limit: 0 });
}

#[test]
fn a_header_with_anything_unknown_is_refused() {
    for (at, field) in [(0, "header magic"), (4, "header version"), (5, "header kind"), (6, "header reserved")] {
        let mut header = end();
        header[at] ^= 0x40;
        assert_eq!(Header::decode(&header).unwrap_err().field, field);
    }
}

/// Pushes chunk by chunk; gives all output, the fence and what came after it.
fn scan<'a>(finder: &mut FenceFinder, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Fence>, Vec<u8>) {
    let (mut output, mut fence, mut rest) = (Vec::new(), None, Vec::new());
    for chunk in chunks {
        let scan = finder.push(chunk);
        output.extend_from_slice(scan.output[0]);
        output.extend_from_slice(scan.output[1]);
        fence = fence.or(scan.fence.map(Result::unwrap));
        rest.extend_from_slice(scan.rest);
    }
    (output, fence, rest)
}

/// A tiny generator of numbers (xorshift64*), so that the test needs no dependency and is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

fn chunks<'a>(numbers: &mut Numbers, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let largest = [1, 3, 40, 500][numbers.below(4)];
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(numbers.below(largest + 1).min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

#[test]
fn a_fence_is_found_however_the_stream_is_cut() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..4_000 {
        // A nonce of few different bytes overlaps with itself and with the output, which is the hard case.
        let variety = [2, 3, 256][numbers.below(3)];
        let nonce: Nonce = std::array::from_fn(|_| numbers.below(variety) as u8);
        let mut output: Vec<u8> = (0..numbers.below(300)).map(|_| numbers.below(variety) as u8).collect();
        for _ in 0..numbers.below(4) {
            output.extend_from_slice(&nonce[..numbers.below(NONCE_LEN)]);
        }
        let fence = if round % 2 == 0 { Fence::Stdout { artifacts: 7 } } else { Fence::Stderr(trailer()) };
        let stream = [output.clone(), fence.encode(&nonce), b"after".to_vec()].concat();
        if (0..output.len()).any(|at| stream[at..].starts_with(&nonce)) {
            continue; // The output and the nonce's beginning happen to make the nonce.
        }
        let mut finder = FenceFinder::new(nonce, fence.stream());
        let found = scan(&mut finder, chunks(&mut numbers, &stream).into_iter());
        assert_eq!(found, (output, Some(fence), b"after".to_vec()), "round {round}");
        assert!(finder.is_over());
    }
}

#[test]
fn without_a_fence_every_byte_comes_back_and_at_most_31_are_held() {
    let mut numbers = Numbers(42);
    for round in 0..2_000 {
        let nonce: Nonce = std::array::from_fn(|_| numbers.below(2) as u8);
        let mut stream: Vec<u8> = (0..numbers.below(200)).map(|_| numbers.below(3) as u8).collect();
        stream.extend_from_slice(&nonce[..numbers.below(NONCE_LEN)]);
        if stream.windows(NONCE_LEN).any(|window| window == nonce) {
            continue;
        }
        let mut finder = FenceFinder::new(nonce, Stream::Stdout);
        let (mut output, fence, rest) = scan(&mut finder, chunks(&mut numbers, &stream).into_iter());
        assert_eq!((fence, rest), (None, Vec::new()));
        let left = finder.finish();
        assert!(left.bytes.len() < NONCE_LEN && !left.cut_fence);
        output.extend_from_slice(&left.bytes);
        assert_eq!(output, stream, "round {round}");
    }
}

#[test]
fn both_fences_are_found_in_one_pipe() {
    let stream =
        [b"out".to_vec(), Fence::Stdout { artifacts: 0 }.encode(&nonce()), Fence::Stderr(trailer()).encode(&nonce())]
            .concat();
    let mut first = FenceFinder::new(nonce(), Stream::Stdout);
    let (output, fence, rest) = scan(&mut first, std::iter::once(stream.as_slice()));
    assert_eq!((output.as_slice(), fence), (b"out".as_slice(), Some(Fence::Stdout { artifacts: 0 })));
    let mut second = FenceFinder::new(nonce(), Stream::Stderr);
    let (output, fence, rest) = scan(&mut second, std::iter::once(rest.as_slice()));
    assert_eq!((output, fence, rest), (vec![], Some(Fence::Stderr(trailer())), vec![]));
}

#[test]
fn a_broken_fence_is_an_error_and_a_cut_one_is_given_back() {
    let fence = Fence::Stdout { artifacts: 0 }.encode(&nonce());
    let mut wrong = FenceFinder::new(nonce(), Stream::Stderr);
    assert_eq!(wrong.push(&fence).fence.unwrap().unwrap_err().field, "fence stream");
    for length in NONCE_LEN..fence.len() {
        let mut cut = FenceFinder::new(nonce(), Stream::Stdout);
        assert_eq!(cut.push(&fence[..length]).fence, None);
        assert_eq!(cut.finish(), Leftover { bytes: fence[..length].to_vec(), cut_fence: true });
    }
    for (at, value) in [(32, 9), (34, 9), (36 + 48, 0)] {
        let mut bytes = Fence::Stderr(trailer()).encode(&nonce());
        bytes[at] = value;
        let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
        let broken = finder.push(&bytes).fence.is_some_and(|fence| fence.is_err());
        assert_eq!(broken, at != 36 + 48, "byte {at}");
    }
}

#[test]
fn every_trailer_field_is_checked() {
    for (at, value) in [(0, 0), (0, 4), (1, 0), (1, 6), (2, 1), (7, 0xff)] {
        let mut bytes = Fence::Stderr(trailer()).encode(&nonce());
        bytes[FENCE_HEAD_LEN + at] = value;
        let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
        assert!(finder.push(&bytes).fence.unwrap().is_err(), "byte {at} = {value}");
    }
    let long = Trailer { message: vec![b'x'; 1000], ..trailer() };
    assert_eq!(Fence::Stderr(long).encode(&nonce()).len(), FENCE_MAX_LEN);
}
