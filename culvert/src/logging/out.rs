//! Lines on standard error that nobody waits for: whoever reads them may stand still, and the node goes on.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::config::LogFormat;

/// How long the first line waits for a reader that has stopped: many times what one needs that had no processor for a moment. Those
/// after it do not wait.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// What a pipe takes without waiting if it can be written at all (pipe(7)).
const AT_ONCE_OCTETS: usize = 4_096;
/// Octets of a pipe that this process writes to: a second of the lines of 5,000 tunnels that come up. It is what Linux lets anybody have;
/// 64 KiB otherwise.
const PIPE: usize = 1 << 20;

/// Lines that were not written, as nobody read those before them.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// For `Others::counters`.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("log_lines_lost", self.0.load(Ordering::Relaxed))]
    }
}

/// Standard error, or what stands for it.
pub(super) struct Out<W> {
    to: Mutex<To<W>>,
    format: LogFormat,
    lost: Lost,
}

struct To<W> {
    writer: W,
    /// Nobody has to read it for more to be written: it is a file, and need not be asked each time.
    is_file: bool,
    /// The last line found no reader.
    stuck: bool,
    /// Lines lost since that was said.
    untold: u64,
    /// A part of the last line was written.
    broken: bool,
}

impl<W: Write + AsFd> Out<W> {
    pub(super) fn new(writer: W, format: LogFormat, lost: Lost) -> Self {
        // An error is something else than a pipe, or one that may not be larger.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
        let is_file = fstat(&writer).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Self { to: Mutex::new(To { writer, is_file, stuck: false, untold: 0, broken: false }), format, lost }
    }

    fn line(&self, line: &[u8]) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let told = match to.untold {
            0 => true,
            lost => to.put(missing(lost, self.format).as_bytes()),
        };
        if told {
            to.untold = 0;
        }
        if !(told && to.put(line)) {
            to.untold += 1;
            self.lost.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<W: Write + AsFd> To<W> {
    /// False if not all of it was written.
    fn put(&mut self, line: &[u8]) -> bool {
        if self.broken && !self.put_part(b"\n") {
            return false;
        }
        self.broken = false;
        for part in line.chunks(AT_ONCE_OCTETS) {
            if !self.put_part(part) {
                return false;
            }
            self.broken = true;
        }
        self.broken = false;
        true
    }

    fn put_part(&mut self, part: &[u8]) -> bool {
        let patience = if self.stuck { AT_ONCE } else { PATIENCE };
        self.stuck = !self.is_file && !takes(self.writer.as_fd(), patience);
        // A reader that is gone is an error, and there is nobody to tell it to.
        !self.stuck && self.writer.write_all(part).is_ok()
    }
}

/// Whether something can be written without waiting, now or within this time.
fn takes(to: BorrowedFd<'_>, patience: Timespec) -> bool {
    match poll(&mut [PollFd::new(&to, PollFlags::OUT)], Some(&patience)) {
        Ok(ready) => ready > 0,
        // A signal came, and nothing is known.
        Err(Errno::INTR) => false,
        // What cannot be asked is written to as ever.
        Err(_) => true,
    }
}

/// Says that lines are missing here.
fn missing(lines: u64, format: LogFormat) -> String {
    let mut time = String::new();
    let message = "lines of the log are missing: nobody read standard error";
    if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
        time.clear();
    }
    let target = module_path!();
    match format {
        LogFormat::Text => format!("{time}  WARN {target}: {message} lines={lines}\n"),
        LogFormat::Json => {
            let line = json!({ "timestamp": time, "level": "WARN", "message": message, "lines": lines, "target": target });
            format!("{line}\n")
        }
    }
}

/// One line, or a part of one.
pub(super) struct Line<'a, W>(&'a Out<W>);

impl<W: Write + AsFd> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + AsFd + 'a> MakeWriter<'a> for Out<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, pipe};

    use super::*;

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_is_told_how_many() {
        let (reader, writer) = pipe().unwrap();
        let lost = Lost::default();
        let out = Out::new(writer, LogFormat::Json, lost.clone());
        let line = format!("{}\n", "x".repeat(999));
        let mut written = 0;
        while lost.counts()[0].1 < 3 {
            out.line(line.as_bytes());
            written += 1;
            assert!(written < 10_000, "nothing is lost");
        }
        // One of several parts, of which none finds room.
        out.line(&vec![b'y'; 3 * AT_ONCE_OCTETS]);
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..written - 3 {
            assert_eq!(lines.next().unwrap().unwrap().len(), 999);
        }
        out.line(b"again\n");
        let missing: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((missing["lines"].as_u64(), missing["level"].as_str()), (Some(4), Some("WARN")));
        assert_eq!(lines.next().unwrap().unwrap(), "again");
        out.line(b"and again\n");
        assert_eq!(lines.next().unwrap().unwrap(), "and again");
        assert_eq!(lost.counts(), [("log_lines_lost", 4)]);
    }

    #[test]
    fn a_file_takes_any_line_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        let lost = Lost::default();
        let out = Out::new(file.try_clone().unwrap(), LogFormat::Text, lost.clone());
        let long = "x".repeat(3 * AT_ONCE_OCTETS);
        out.line(format!("{long}\n").as_bytes());
        out.line(b"next\n");
        let mut all = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut all).unwrap();
        assert_eq!((all, lost.counts()[0].1), (format!("{long}\nnext\n"), 0));
    }

    #[test]
    fn a_line_that_was_cut_ends_before_the_next() {
        let (mut reader, writer) = pipe().unwrap();
        let out = Out::new(writer, LogFormat::Text, Lost::default());
        // No pipe is as large as that.
        out.line(&vec![b'x'; 2 * PIPE]);
        let mut some = vec![0; PIPE];
        reader.read_exact(&mut some[..2 * AT_ONCE_OCTETS]).unwrap();
        out.line(b"next\n");
        drop(out);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        let rest: Vec<&str> = all.trim_start_matches('x').lines().collect();
        assert!(rest.len() == 3 && rest[0].is_empty() && rest[1].contains("lines=1"), "{rest:?}");
        assert_eq!(rest[2], "next");
    }

    #[test]
    fn a_reader_that_is_gone_harms_nobody() {
        let (reader, writer) = pipe().unwrap();
        let lost = Lost::default();
        let out = Out::new(writer, LogFormat::Text, lost.clone());
        out.line(b"first\n");
        drop(reader);
        for _ in 0..2 {
            out.make_writer().write_all(b"second\n").unwrap();
        }
        assert_eq!(lost.counts()[0].1, 2);
    }

    #[test]
    fn what_is_missing_is_said_in_the_form_of_the_log() {
        let (mut reader, writer) = pipe().unwrap();
        let out = Out::new(writer, LogFormat::Text, Lost::default());
        out.to.lock().unwrap().untold = 7;
        out.line(b"next\n");
        drop(out);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert!(all.contains("WARN culvert::logging::out: lines of the log are missing"), "{all}");
        assert!(all.ends_with("lines=7\nnext\n"), "{all}");
    }
}
