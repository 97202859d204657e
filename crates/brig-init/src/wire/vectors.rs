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
        marks: vec![[[0x11; 16], [0x22; 16]]],
        files: vec![File { path: b"a/b", mode: 0o640, content: b"x\0y\n" }],
        stdin: b"in\n",
    }
}

fn trailer() -> Trailer {
    Trailer {
        how: How::NotStarted(2),
        why: Why::Finished,
        step: 1,
        steps: vec![
            StepEnd { how: How::Signalled(15), wall_us: 12 },
            StepEnd { how: How::NotStarted(2), wall_us: 0x0102_0304 },
        ],
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
        ("mark", mark(&nonce(), &[0x11; 16]).to_vec()),
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
    assert_eq!(refused(|r| r.marks.push([[3; 16], [4; 16]])), ("marks", Problem::Value(2)));
    assert_eq!(refused(|r| r.marks[0][1] = r.marks[0][0]), ("marks", Problem::Duplicate));
    assert_eq!(refused(|r| r.marks[0][1].copy_from_slice(&nonce()[16..])), ("marks", Problem::Duplicate));
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

/// What a stream came to: its output and marks, in their order, the fence and what came after it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    output: Vec<u8>,
    /// After how many bytes of output which step began.
    marks: Vec<(usize, u32)>,
    fence: Option<Fence>,
    rest: Vec<u8>,
}

/// Pushes chunk by chunk.
fn scan<'a>(finder: &mut FenceFinder, chunks: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut seen = Seen::default();
    for mut chunk in chunks {
        loop {
            let scan = finder.push(chunk);
            seen.output.extend_from_slice(scan.output[0]);
            seen.output.extend_from_slice(scan.output[1]);
            assert!(scan.output[0].len() < NONCE_LEN);
            chunk = scan.rest;
            match scan.found {
                Some(Found::Mark(step)) => seen.marks.push((seen.output.len(), step)),
                Some(Found::Fence(fence)) => seen.fence = Some(fence.unwrap()),
                None => break,
            }
        }
        seen.rest.extend_from_slice(chunk);
    }
    seen
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

/// A nonce of few different bytes overlaps with itself and with the output, which is the hard case.
fn overlapping(numbers: &mut Numbers, variety: usize) -> Nonce {
    std::array::from_fn(|_| numbers.below(variety) as u8)
}

#[test]
fn a_fence_is_found_however_the_stream_is_cut() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..4_000 {
        let variety = [2, 3, 256][numbers.below(3)];
        let nonce = overlapping(&mut numbers, variety);
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
        let seen = scan(&mut finder, chunks(&mut numbers, &stream).into_iter());
        let expected = Seen { output, marks: vec![], fence: Some(fence), rest: b"after".to_vec() };
        assert_eq!(seen, expected, "round {round}");
        assert!(finder.is_over());
    }
}

/// A run of a few steps whose programs know the tag, and all marks that were written: everything that they write comes
/// through, each byte at its step, whatever they write and however the stream is cut. A mark that is missing gives its
/// step's output to the one before, and no more.
#[test]
fn marks_are_found_however_the_stream_is_cut_and_cannot_be_made() {
    let mut numbers = Numbers(7);
    let mut missing = 0;
    for round in 0..4_000 {
        let variety = [2, 256][numbers.below(2)];
        let nonce = overlapping(&mut numbers, variety);
        let secrets: Vec<[Secret; 2]> = (0..numbers.below(5))
            .map(|_| [(); 2].map(|()| *overlapping(&mut numbers, 256).first_chunk().unwrap()))
            .collect();
        let which = if round % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        let (mut stream, mut output, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..=secrets.len() {
            if step > 0 {
                let written = mark(&nonce, &secrets[step - 1][which.index()]);
                if numbers.below(8) > 0 {
                    marks.push((output.len(), step as u32));
                    stream.extend_from_slice(&written);
                } else {
                    missing += 1;
                    continue; // And what it would have told is told by nobody: the secret is not known to programs.
                }
            }
            let mut says: Vec<u8> = (0..numbers.below(100)).map(|_| numbers.below(variety) as u8).collect();
            for _ in 0..numbers.below(4) {
                says.extend_from_slice(&nonce[..numbers.below(TAG_LEN + 1)]);
                let past = &secrets[..step];
                if !past.is_empty() && marks.last().is_some_and(|(_, last)| *last as usize == step) {
                    // Replayed, whole or in part; of the other stream too.
                    let replayed = mark(&nonce, &past[numbers.below(past.len())][numbers.below(2)]);
                    says.extend_from_slice(&replayed[..numbers.below(MARK_LEN + 1)]);
                }
            }
            stream.extend_from_slice(&says);
            output.extend_from_slice(&says);
        }
        let fence = if round % 2 == 0 { Fence::Stdout { artifacts: 0 } } else { Fence::Stderr(trailer()) };
        let genuine = stream.windows(NONCE_LEN).filter(|window| **window == nonce).count();
        stream.extend_from_slice(&fence.encode(&nonce));
        if genuine > 0 || (variety == 2 && stream.windows(NONCE_LEN).filter(|window| **window == nonce).count() != 1) {
            continue; // As above.
        }
        let mut finder = FenceFinder::with_marks(nonce, which, &secrets);
        let seen = scan(&mut finder, chunks(&mut numbers, &stream).into_iter());
        assert_eq!(seen, Seen { output, marks, fence: Some(fence), rest: vec![] }, "round {round}");
    }
    assert!(missing > 100, "the test has become too easy");
}

#[test]
fn output_is_not_held_back_once_it_can_be_no_mark() {
    let secrets = [[[9; 16], [8; 16]]];
    let mut finder = FenceFinder::with_marks(nonce(), Stream::Stdout, &secrets);
    let tag = &nonce()[..TAG_LEN];
    assert_eq!(finder.push(tag).output, [b"", b""]);
    let scan = finder.push(&[9, 9, 7]);
    assert_eq!(scan.output, [tag, &[9, 9, 7]], "the whole of it, at once");
    assert_eq!(finder.push(b"text").output, [b"".as_slice(), b"text"]);
    // What is only the beginning of one that is awaited stays, and so does one of the other stream's not.
    assert_eq!(finder.push(&mark(&nonce(), &[8; 16])).output[1], mark(&nonce(), &[8; 16]));
    assert_eq!(finder.push(&mark(&nonce(), &[9; 16])[..31]).output, [b"", b""]);
    assert_eq!(finder.push(&[9]).found, Some(Found::Mark(1)));
    let again = mark(&nonce(), &[9; 16]);
    assert_eq!(finder.push(&again).output, [b"".as_slice(), &again], "the same mark counts once");
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
        let Seen { mut output, fence, rest, .. } = scan(&mut finder, chunks(&mut numbers, &stream).into_iter());
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
    let Seen { output, fence, rest, .. } = scan(&mut first, std::iter::once(stream.as_slice()));
    assert_eq!((output.as_slice(), fence), (b"out".as_slice(), Some(Fence::Stdout { artifacts: 0 })));
    let mut second = FenceFinder::new(nonce(), Stream::Stderr);
    let seen = scan(&mut second, std::iter::once(rest.as_slice()));
    assert_eq!(seen, Seen { fence: Some(Fence::Stderr(trailer())), ..Seen::default() });
}

fn broken(scan: Scan<'_, '_>) -> Option<WireError> {
    match scan.found {
        Some(Found::Fence(fence)) => fence.err(),
        _ => None,
    }
}

#[test]
fn a_broken_fence_is_an_error_and_a_cut_one_is_given_back() {
    let fence = Fence::Stdout { artifacts: 0 }.encode(&nonce());
    let mut wrong = FenceFinder::new(nonce(), Stream::Stderr);
    assert_eq!(broken(wrong.push(&fence)).unwrap().field, "fence stream");
    for length in NONCE_LEN..fence.len() {
        let mut cut = FenceFinder::new(nonce(), Stream::Stdout);
        assert_eq!(cut.push(&fence[..length]).found, None);
        assert_eq!(cut.finish(), Leftover { bytes: fence[..length].to_vec(), cut_fence: true });
    }
    for (at, value) in [(32, 9), (34, 9), (36 + 80, 0)] {
        let mut bytes = Fence::Stderr(trailer()).encode(&nonce());
        bytes[at] = value;
        let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
        assert_eq!(broken(finder.push(&bytes)).is_some(), at != 36 + 80, "byte {at}");
    }
}

#[test]
fn every_trailer_field_is_checked() {
    let in_a_step = [(48, 0), (48, 4), (49, 1), (55, 0xff), (12, 65)];
    for (at, value) in [(0, 0), (0, 4), (1, 0), (1, 6), (2, 1), (7, 0xff)].into_iter().chain(in_a_step) {
        let mut bytes = Fence::Stderr(trailer()).encode(&nonce());
        bytes[FENCE_HEAD_LEN + at] = value;
        let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
        assert!(broken(finder.push(&bytes)).is_some(), "byte {at} = {value}");
    }
    let steps = vec![StepEnd { how: How::Exited(0), wall_us: 1 }; MAX_STEPS + 9];
    let long = Trailer { message: vec![b'x'; 1000], steps, ..trailer() };
    let bytes = Fence::Stderr(long).encode(&nonce());
    assert_eq!(bytes.len(), FENCE_MAX_LEN);
    const { assert!(FENCE_MAX_LEN < 4096, "a pipe takes it whole") };
    let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
    assert!(matches!(finder.push(&bytes).found, Some(Found::Fence(Ok(_)))));
    // A message that is longer than any may be is refused, although the whole is no longer than it may be.
    let fewer = Trailer { message: vec![b'x'; 250], steps: vec![], ..trailer() };
    let mut bytes = Fence::Stderr(fewer).encode(&nonce());
    bytes.extend_from_slice(&[b'y'; 7]);
    bytes[NONCE_LEN + 2..NONCE_LEN + 4].copy_from_slice(&305_u16.to_le_bytes());
    let mut finder = FenceFinder::new(nonce(), Stream::Stderr);
    assert_eq!(broken(finder.push(&bytes)).unwrap().field, "trailer message");
}
