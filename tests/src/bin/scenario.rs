//! Does what its arguments say, one after another, so that tests can look at what whole processes
//! leave behind under an environment of their choice.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use bitnet_trace::{TraceContext, TraceSession, annotate_run, dump_trace, dump_trace_with_context, flush, tap, traced};
use candle_core::{DType, Device, Result, Tensor};

#[traced(stage = "double")]
fn double(x: &Tensor) -> Result<Tensor> {
    x + x
}

#[traced]
fn q_proj(x: &Tensor) -> Result<Tensor> {
    x * 3.0
}

#[traced(stage = "seldom", when = when)]
fn seldom(x: &Tensor, when: bool) -> Result<Tensor> {
    x * 5.0
}

#[traced]
fn logits(x: &Tensor) -> Result<Tensor> {
    x * 4.0
}

static HOG: Mutex<Vec<std::fs::File>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let steps: Vec<String> = std::env::args().skip(1).collect();
    for step in &steps {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        if let Err(error) = run(verb, rest) {
            let _ = writeln!(io::stderr(), "failed: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn model() -> bitnet_models::Result<()> {
    let model = bitnet_models::Transformer::load(&bitnet_models::tiny::checkpoint()?)?;
    let mut cache = bitnet_models::KvCache::new(model.config());
    model.forward_full(&[3, 4, 12, 5, 6, 13], &mut cache)?;
    (3..6).try_for_each(|token| model.forward_incremental(token, &mut cache).map(drop))
}

fn run(verb: &str, rest: &str) -> Result<()> {
    let x = Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu)?;
    match verb {
        dump if dump.starts_with("dump") => return dumps(verb, rest),
        "seldom" => drop(seldom(&x, false)?),
        // model: the embedded model, a prefill and three steps
        "model" => model().map_err(candle_core::Error::wrap)?,
        // traced N: the annotated function, N times
        "traced" => {
            for _ in 0..rest.parse().unwrap_or(1) {
                double(&x)?;
            }
        }
        "tap" => tap(rest, &x),
        // steps N: N steps of two layers of two stages, and one outside
        "steps" => {
            for seq in 0..rest.parse().unwrap_or(1) {
                let _step = TraceContext::seq(seq).with_tokens(seq..seq + 1).enter();
                for layer in 0..2 {
                    let _layer = TraceContext::layer(layer).enter();
                    q_proj(&x)?;
                    double(&x)?;
                }
                logits(&x)?;
            }
        }
        // stream: records without end, and prints after each call how many calls returned
        "stream" => {
            for count in 1.. {
                double(&x)?;
                say(&count.to_string());
            }
        }
        // threads N: eight threads; each makes N records in a layer of its own
        "threads" => {
            let count = rest.parse().unwrap_or(1);
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let x = &x;
                    scope.spawn(move || {
                        let _layer = TraceContext::layer(thread).enter();
                        (0..count).try_for_each(|_| double(x).map(drop))
                    });
                }
            });
        }
        // together N: eight threads; each makes N records, all with the same name
        "together" => {
            let count: usize = rest.parse().unwrap_or(1);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..count).try_for_each(|_| double(&x).map(drop)));
                }
            });
        }
        // alike N: one name in N steps
        "alike" => {
            for step in 0..rest.parse().unwrap_or(1) {
                dump_trace_with_context("q", &x, Some(step), None, None)?;
            }
        }
        // large: a tensor of a megabyte
        "large" => drop(double(&Tensor::ones((256, 1024), DType::F32, &Device::Cpu)?)?),
        // types: a strided tensor of every type
        "types" => {
            for dtype in [
                DType::U8,
                DType::U32,
                DType::I16,
                DType::I32,
                DType::I64,
                DType::BF16,
                DType::F16,
                DType::F32,
                DType::F64,
                DType::F8E4M3,
            ] {
                let ramp = Tensor::arange(0f32, 120.0, &Device::Cpu)?.reshape((10, 12))?.to_dtype(dtype)?;
                tap(&format!("{dtype:?}"), &ramp.t()?.narrow(0, 1, 10)?);
            }
        }
        // sum: prints what the model computes, even if its trace fails
        "sum" => say(&format!("sum {}", double(&x)?.sum_all()?.to_scalar::<f32>()?)),
        "unrecordable" => {
            let storage = candle_core::CpuStorage::F4(vec![0; 4]);
            let tensor =
                Tensor::from_storage(candle_core::Storage::Cpu(storage), 8, candle_core::op::BackpropOp::none(), false);
            tap("packed", &tensor);
        }
        _ => return surroundings(verb, rest),
    }
    Ok(())
}

/// The earlier tracer's functions.
fn dumps(verb: &str, rest: &str) -> Result<()> {
    let x = Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu)?;
    match verb {
        // dump NAME
        "dump" => dump_trace(rest, &x)?,
        // dump-in-context NAME: an open scope must not fill in what is `None`
        "dump-in-context" => {
            let _scope = TraceContext::seq(7).with_layer(8).with_request(9).enter();
            dump_trace_with_context(rest, &x, Some(1), None, Some("stage"))?;
        }
        // dump-many N NAME: N records NAME/0, NAME/1, ...
        "dump-many" => {
            let (count, name) = rest.split_once(' ').unwrap_or((rest, "x"));
            for number in 0..count.parse().unwrap_or(1) {
                dump_trace(&format!("{name}/{number}"), &x)?;
            }
        }
        // dump-rank NAME: another tensor in every rank
        "dump-rank" => {
            let rank: f64 = std::env::var("RANK").ok().and_then(|rank| rank.parse().ok()).unwrap_or(0.0);
            dump_trace(rest, &(&x * (rank + 1.0))?)?;
        }
        "dump-nan" => dump_trace("nan", &Tensor::new(&[f32::NAN, 1.0], &Device::Cpu)?)?,
        "dump-shapes" => {
            for dtype in [DType::F32, DType::F64] {
                for shape in [vec![6], vec![2, 3], vec![1, 2, 3], vec![1, 2, 3, 1]] {
                    let name = format!("{dtype:?}-{}", shape.len());
                    dump_trace(&name, &Tensor::arange(0f32, 6.0, &Device::Cpu)?.to_dtype(dtype)?.reshape(shape)?)?;
                }
            }
        }
        other => candle_core::bail!("unknown step {other}"),
    }
    Ok(())
}

/// Runs a step that records nothing by itself: sessions, files, the end of the process.
fn surroundings(verb: &str, rest: &str) -> Result<()> {
    let x = Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu)?;
    match verb {
        // session DIR: a session of its own in DIR
        "session" => {
            let session = TraceSession::builder().dir(rest).start().map_err(candle_core::Error::wrap)?;
            session.in_scope(|| double(&x))?;
            let trace = session.finish().map_err(candle_core::Error::wrap)?;
            say(&format!("{} records", trace.records().len()));
        }
        // sessions DIR: two sessions at once on one directory
        "sessions" => {
            let first = TraceSession::builder().dir(rest).start().map_err(candle_core::Error::wrap)?;
            let second = TraceSession::builder().dir(rest).start();
            say(&second.err().map_or_else(|| "two live sessions".to_owned(), |error| error.to_string()));
            first.finish().map_err(candle_core::Error::wrap)?;
        }
        // sessions-many N DIR: N sessions, one after another, each in its own directory; then prints how
        // many files were open before and after
        "sessions-many" => {
            let (count, directory) = rest.split_once(' ').unwrap_or((rest, "."));
            let before = open_files()?;
            for number in 0..count.parse().unwrap_or(1) {
                let builder = TraceSession::builder().dir(format!("{directory}/{number}")).capture("values");
                let builder = builder.format(if number % 2 == 0 { "files" } else { "jsonl" });
                let session = builder.start().map_err(candle_core::Error::wrap)?;
                session.in_scope(|| double(&x))?;
                session.finish().map_err(candle_core::Error::wrap)?;
            }
            say(&format!("{before} {}", open_files()?));
        }
        // annotate KEY VALUE
        "annotate" => {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            annotate_run(key, value);
        }
        "remove" => std::fs::remove_dir_all(rest)?,
        "flush" => flush(),
        // Tells the test that everything before is done, and waits for it.
        "wait" => {
            say("ready");
            io::stdin().lock().read_line(&mut String::new())?;
        }
        "panic" => panic!("as told"),
        "exit" => std::process::exit(rest.parse().unwrap_or(0)),
        // hog: opens files until no file descriptor is left; release closes them
        "hog" => {
            let mut taken = HOG.lock().map_err(|_| candle_core::Error::msg("poisoned"))?;
            while let Ok(file) = std::fs::File::open(".") {
                taken.push(file);
            }
        }
        "release" => HOG.lock().map_err(|_| candle_core::Error::msg("poisoned"))?.clear(),
        // sh COMMAND: runs a command that changes the file system meanwhile
        "sh" => {
            let status = std::process::Command::new("sh").args(["-c", rest]).status()?;
            if !status.success() {
                candle_core::bail!("sh: {status}");
            }
        }
        other => candle_core::bail!("unknown step {other}"),
    }
    Ok(())
}

fn open_files() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
