//! Chats, in a real terminal.

use super::*;

/// `hob` in a terminal of its own, made by `script`.
pub(crate) struct Terminal {
    process: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
    /// What `shows` has found already.
    seen: usize,
}

impl Terminal {
    pub(crate) fn start(daemon: &Daemon, arguments: &str) -> Self {
        let hob = binary("hob");
        let mut process = daemon
            .command(Path::new("script"))
            .args(["--quiet", "--return", "--flush", "--command"])
            // A shell that stayed would see the Ctrl-C meant for hob, and end with its own code.
            .arg(format!("exec {} {arguments}", hob.display()))
            .arg("/dev/null")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("running script");
        let keys = process.stdin.take().unwrap();
        let mut output = process.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&screen);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..length]);
                written.lock().unwrap().push_str(&text);
            }
        });
        Self {
            process,
            keys,
            screen,
            seen: 0,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until `text` appears after what was waited for before.
    pub(crate) async fn shows(&mut self, text: &str) {
        let what = format!("the terminal shows {text:?}");
        self.seen = eventually(&what, async || {
            let screen = self.screen.lock().unwrap();
            let found = screen[self.seen..].find(text)?;
            Some(self.seen + found + text.len())
        })
        .await;
    }

    /// Waits for the prompt, then types a line.
    pub(crate) async fn types(&mut self, line: &str) {
        self.shows("> ").await;
        self.press(&format!("{line}\r"));
        self.shows(line).await;
    }

    pub(crate) async fn ends(mut self) -> (Option<i32>, String) {
        let status = eventually("hob ends", async || self.process.try_wait().unwrap()).await;
        (status.code(), self.screen.lock().unwrap().clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let screen = self.screen.lock().unwrap();
            // Shown by the test's runner because the test fails.
            let _ = writeln!(std::io::stderr(), "--- screen ---\n{screen}\n--- end ---");
        }
    }
}

pub(crate) const CTRL_C: &str = "\u{3}";
pub(crate) const CTRL_D: &str = "\u{4}";

#[tokio::test]
async fn a_chat_keeps_its_conversation_and_survives_ctrl_c() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "");
    chat.shows("fake").await;
    chat.shows("/help lists commands").await;
    chat.types("fake: slow 50 1000000").await;
    chat.shows("word word").await;
    chat.press(CTRL_C);
    let pressed = Instant::now();
    chat.shows("(stopped)").await;
    until_idle(&daemon).await;
    // Not merely because hobd gave up on a client that no longer reads.
    assert!(pressed.elapsed() < Duration::from_secs(10));

    // The question, the partial answer and the new question are all sent.
    chat.types("fake: show").await;
    chat.shows("slow 50 1000000").await;
    chat.shows("word word").await;
    chat.types("/new").await;
    chat.shows("(a new conversation)").await;
    chat.types("one two three").await;
    chat.shows("one two three").await;
    chat.types("/stats").await;
    chat.shows("turns    1").await;
    chat.shows("> ").await;
    chat.press(CTRL_C);
    chat.shows("Ctrl-D or /quit leaves").await;
    chat.shows("> ").await;
    chat.press(CTRL_D);
    let (code, _) = chat.ends().await;
    assert_eq!(code, Some(0));

    let history = daemon.home().join("state/hob/history");
    assert!(
        fs::read_to_string(&history)
            .unwrap()
            .contains("one two three")
    );
    assert_eq!(
        fs::metadata(&history).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn chat_commands_do_what_they_say() {
    let daemon = Setup::fake().fake_model("second", "").ready().await;
    let mut chat = Terminal::start(&daemon, "chat --system 'Be brief.'");
    chat.types("/help").await;
    chat.shows("/save FILE").await;
    chat.types("/hepl").await;
    chat.shows("did you mean /help?").await;
    chat.types("/system").await;
    chat.shows("(instructions: Be brief.)").await;
    chat.types("/model").await;
    chat.shows("* fake").await;
    chat.shows("second").await;
    chat.types("/model nonesuch").await;
    chat.shows("error:").await;
    chat.types("/model second").await;
    chat.shows("second is loaded").await;
    chat.types("//etc").await;
    chat.shows("/etc\r\n").await;
    chat.types("fake: escape").await;
    chat.shows("␛[31mred").await;

    let file = daemon.home().join("chat.md");
    chat.types("/save ~/chat.md").await;
    chat.shows("(saved to").await;
    chat.types("/save ~/chat.md").await;
    chat.shows("overwrite it? [y/N]").await;
    chat.press("n\r");
    chat.shows("(not saved)").await;
    let saved = fs::read_to_string(&file).unwrap();
    for part in ["# Chat with second", "Be brief.", "/etc", "␛[31mred"] {
        assert!(saved.contains(part), "{part}: {saved}");
    }
    chat.types("/quit").await;
    let (code, screen) = chat.ends().await;
    assert_eq!(code, Some(0));
    assert!(!screen.contains("\u{1b}]0;title"), "{screen:?}");
}

#[tokio::test]
async fn several_lines_and_completion_at_the_prompt() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "");
    chat.shows("> ").await;
    chat.press("one \\\rtwo\r");
    chat.shows("one \r\ntwo\r\n").await;
    chat.shows("> ").await;
    chat.press("/mo\tfa\t\r");
    chat.shows("fake is loaded").await;
    chat.shows("> ").await;
    chat.press("/quit\r");
    let (code, _) = chat.ends().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn an_overflow_in_a_chat_names_both_counts_and_a_way_on() {
    let daemon = Setup::fake_load("n_ctx 64").ready().await;
    let mut chat = Terminal::start(&daemon, "");
    // Short enough to stay on one line of the terminal.
    let thirty = "a ".repeat(30);
    chat.types(thirty.trim()).await;
    chat.types(thirty.trim()).await;
    chat.shows("error:").await;
    chat.shows("64").await;
    chat.shows("/new starts over").await;
    chat.types("/new").await;
    chat.types("one two").await;
    chat.shows("one two\r\n").await;
    chat.shows("> ").await;
    chat.press(CTRL_D);
    assert_eq!(chat.ends().await.0, Some(0));
}

#[tokio::test]
async fn the_status_is_watched_in_place_until_ctrl_c() {
    let daemon = Setup::fake().ready().await;
    let mut watch = Terminal::start(&daemon, "status --watch 1");
    watch.shows("0 running, 0 waiting").await;
    // The second frame goes back over the first.
    watch.shows("\u{1b}[4A\r").await;
    let answered = daemon.client().ask("one two three").await.answer().await;
    answered.done();
    watch.shows("1 given, 0 refused").await;
    watch.press(CTRL_C);
    let (code, screen) = watch.ends().await;
    assert_eq!(code, Some(0));
    for left_behind in ["\u{1b}[?25l", "\u{1b}[?1049h"] {
        assert!(!screen.contains(left_behind), "{screen:?}");
    }
}

#[tokio::test]
async fn a_watch_over_a_pipe_is_a_line_each_time() {
    let daemon = Setup::fake().ready().await;
    let mut child = daemon
        .hob()
        .args(["status", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    for line in &lines {
        assert!(line.starts_with("ready, fake; 0 running"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    // Its reader is gone, as with `head`.
    let status = eventually("hob ends", async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_is_typed_ahead_waits_for_the_prompt() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "");
    chat.types("fake: slow 40 60").await;
    chat.shows("word").await;
    chat.press("one two");
    // The answer is whole, and the prompt has what was typed.
    chat.shows(&"word ".repeat(50)).await;
    chat.shows("> ").await;
    chat.shows("one two").await;
    chat.press(" three\r");
    chat.shows("one two three").await;
    chat.shows("> ").await;
    chat.press(CTRL_D);
    let (code, _) = chat.ends().await;
    assert_eq!(code, Some(0));
}
