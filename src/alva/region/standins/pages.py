"""The inbox as HTML: two pages, no script, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from alva.region.standins.mailbox import Mail

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: https: http:; frame-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'self'"
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #566173; --line: #d9dee6; --paper: #fff; --ground: #f4f6f9;
  --accent: #0b57d0; --warn: #7a4b00; --warn-ground: #fff4dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --soft: #a7b1c0; --line: #333c4a; --paper: #1b212b;
  --ground: #12161d; --accent: #8ab4f8; --warn: #ffd98a; --warn-ground: #3a2f14; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
a { color: var(--accent); overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.label { background: var(--warn-ground); color: var(--warn); padding: .5rem 1rem; text-align: center; margin: 0; }
.soft { color: var(--soft); margin: 0; }
ul.mails { list-style: none; margin: 1rem 0; padding: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; }
ul.mails li + li { border-top: 1px solid var(--line); }
ul.mails a { display: block; padding: .75rem 1rem; color: inherit; text-decoration: none; }
ul.mails a:hover { background: var(--ground); }
ul.mails strong { display: block; overflow-wrap: anywhere; }
ul.links { padding-left: 1.25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; padding: 1rem; margin: 0; }
iframe { width: 100%; height: 32rem; border: 1px solid var(--line); border-radius: .5rem; background: #fff; }
button, input { font: inherit; padding: .4rem .8rem; border: 1px solid var(--soft); border-radius: .4rem;
  background: var(--paper); color: var(--ink); }
form.row { display: flex; gap: .5rem; flex-wrap: wrap; align-items: end; margin: 1rem 0; }
form.row label { display: block; }
"""


def mails_page(mails: Sequence[Mail], to: str | None, problem: str | None = None) -> str:
    """The list of mails, newest first.

    `to` is the requested recipient, `problem` the reason why no mail can arrive, if there is one.
    """
    alert = f'<p role="alert"><strong>{escape(problem)}</strong></p>' if problem else ""
    if mails:
        items = "".join(
            f'<li><a href="/messages/{escape(mail.id)}"><strong>{escape(mail.subject) or "(no subject)"}</strong>'
            f'<span class="soft">to {escape(", ".join(mail.to))} · {_time(mail)}</span></a></li>'
            for mail in mails
        )
        listing = f'<ul class="mails">{items}</ul>'
    else:
        whom = f" for {escape(to)}" if to else ""
        listing = f"<p>No mail{whom} yet. What the services send appears here.</p>"
    search = (
        '<form class="row" method="get" action="/"><label>Recipient<br>'
        f'<input type="email" name="to" value="{escape(to or "")}"></label><button>Show</button></form>'
    )
    delete = (
        '<form class="row" method="post" action="/delete"><button>Delete all mails</button></form>' if mails else ""
    )
    count = f"{len(mails)} mail{'' if len(mails) == 1 else 's'}"
    return _page("Inbox", f'<h1>Inbox</h1><p class="soft">{count}</p>{alert}{search}{listing}{delete}')


def mail_page(mail: Mail) -> str:
    """One mail: its headers, its links, and its content in both forms."""
    head = "".join(
        f"<dt>{label}</dt><dd>{escape(', '.join(values))}</dd>"
        for label, values in (
            ("From", (mail.sender,)),
            ("To", mail.to),
            ("Cc", mail.cc),
            ("Bcc", mail.bcc),
            ("Reply to", mail.reply_to),
        )
        if values
    )
    parts = [
        '<p><a href="/">All mails</a></p>',
        f"<h1>{escape(mail.subject) or '(no subject)'}</h1>",
        f"<dl>{head}<dt>Sent</dt><dd>{_time(mail)}</dd></dl>",
    ]
    if mail.links:
        items = "".join(
            f'<li><a href="{escape(link)}" rel="noopener noreferrer">{escape(link)}</a></li>' for link in mail.links
        )
        parts.append(f'<h2>Links</h2><ul class="links">{items}</ul>')
    if mail.html:
        parts.append(
            '<h2>HTML</h2><iframe title="The mail as HTML"'
            ' sandbox="allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"'
            f' src="/messages/{escape(mail.id)}/html"></iframe>'
        )
    if mail.text:
        parts.append(f"<h2>Text</h2><pre>{escape(mail.text)}</pre>")
    return _page(mail.subject or "(no subject)", "".join(parts))


def mail_frame(mail: Mail) -> str:
    """The mail's HTML, for a frame without scripts; links open outside the frame."""
    return f'<!doctype html><base target="_top">{mail.html}'


def missing_page() -> str:
    """The page for an unknown mail."""
    return _page("Not found", '<h1>There is no such mail</h1><p><a href="/">All mails</a></p>')


def _page(title: str, content: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · local inbox</title><style>{_STYLE}</style></head><body>"
        '<p class="label" role="note">Local stand-in for Resend: no mail leaves this machine.</p>'
        f"<main>{content}</main></body></html>"
    )


def _time(mail: Mail) -> str:
    sent = datetime.fromisoformat(mail.created_at)
    return f'<time datetime="{escape(mail.created_at)}">{sent:%Y-%m-%d %H:%M:%S} UTC</time>'
