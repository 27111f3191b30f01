"""User agents of the programs that make link previews for messengers and social networks."""

PREVIEW_AGENTS = (
    "slackbot", "slack-imgproxy",  # Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)
    "telegrambot",  # TelegramBot (like TwitterBot)
    "facebookexternalhit", "facebot", "facebookcatalog", "meta-externalfetcher",  # also iMessage
    "twitterbot",  # X
    "discordbot",  # Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)
    "linkedinbot",  # LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://…)
    "skypeuripreview", "microsoftpreview", "bingpreview",  # Teams, Skype, Bing
    "google-pagerenderer",  # Google Chat; with it comes developers.google.com/+/web/snippet
    "snap url preview service",  # Snapchat
    "redditbot", "pinterestbot", "vkshare", "line-poker", "kakaotalk-scrap",
    "bluesky cardyb", "mastodon/", "pleroma", "misskey", "summalybot",  # the fediverse and Bluesky
    "synapse (bot;",  # Matrix
    "iframely", "embedly", "bitlybot",  # Notion, Trello, Medium and others buy previews from these
)  # fmt: skip
"""Parts of the User-Agent (in lower case) of programs that make link previews.

None is part of the User-Agent of an in-app browser of the same company, which a person uses:
`FBAN/FBIOS`, `LinkedInApp`, `Twitter for iPhone`, `Pinterest/iOS`.
"""
