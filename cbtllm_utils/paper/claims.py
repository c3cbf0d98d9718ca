"""What the paper claims in words, each beside the evidence for it and a verdict, in both directions."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files, published
from cbtllm_utils.paper import checks
from cbtllm_utils.paper.checks import BAICHUAN, in_text, in_words
from cbtllm_utils.published import Printed
from cbtllm_utils.text import recognition

QUOTES = "data/published/claims.csv"  # claim, section, quote: the paper's words
READINGS = Path(__file__).with_name("claim_readings.csv")  # claim, evidence with {facts}, verdict, notebooks: ours
HOLDS, IN_PART, NOT_SHOWN = "holds", "holds in part", "not shown"
DOES_NOT_HOLD, UNKNOWN = "does not hold", "cannot be known"
VERDICTS = (HOLDS, IN_PART, NOT_SHOWN, DOES_NOT_HOLD, UNKNOWN)


def table(printed: Printed) -> pd.DataFrame:
    """Return the claims in the paper's order: claim, section, quote, evidence, verdict, notebooks.

    "Not shown" says that the paper gives no evidence that could show the claim; "cannot be known", that what would
    decide it is neither printed nor published.
    """
    known = facts(printed)
    readings = pd.read_csv(READINGS, dtype=str, keep_default_na=False)
    readings["evidence"] = [text.format(**known) for text in readings["evidence"]]
    quotes = pd.read_csv(files.path(QUOTES), dtype=str, keep_default_na=False)
    return quotes.merge(readings, on="claim", how="left", validate="one_to_one")


def facts(printed: Printed) -> dict[str, str]:
    """Return the numbers that verdicts rest on, as text by name, computed from the printed ones."""
    return of_dataset(printed) | of_recognition(printed) | of_metrics(printed) | of_ratings(printed)


def of_dataset(printed: Printed) -> dict[str, str]:
    """Return facts on Tables 1 and 2."""
    samples = published.table("Table 2", printed)["Samples"]
    naming, items = in_text(printed, "replies with a distortion"), in_text(printed, "items")
    both = checks.overlap(printed)
    others = samples.drop(checks.NAMED_CLASSES)
    three = others.drop("Others").sum()
    return {
        "items": f"{items:,.0f}",
        "naming": f"{naming:,.0f}",
        "share_named": f"{naming / items:.1%}",
        "characters": f"{in_text(printed, 'characters per response'):g}",
        "labels": f"{samples.sum():,.0f}",
        "labels_each": f"{samples.sum() / naming:.2f}",
        "others": f"{others.sum():,.0f}",
        "three": f"{three:,.0f}",
        "three_share": f"{three / naming:.1%}",
        "least": f"{both.least:,.0f}",
        "least_share": f"{both.least / naming:.0%}",
        "most": f"{both.most:,.0f}",
        "chance_all": f"{both.by_chance_of_all:,.0f}",
        "chance_naming": f"{both.by_chance_of_naming:,.0f}",
    }


def of_recognition(printed: Printed) -> dict[str, str]:
    """Return facts on Table 3: ranges over every confusion matrix that fits."""
    fits = checks.fits(printed)
    rates = recognition.rates(fits)
    flags = fits["tp"] + fits["fp"]
    said = {name: in_words(rates[name].min(), rates[name].max(), ".2f") for name in rates}
    return {
        "matrices": f"{len(fits)}",
        "accuracy": f"{in_text(printed, 'recognition accuracy'):.2f}",
        "recall": f"{in_text(printed, 'recognition recall'):.2f}",
        "false_flags": in_words(fits["fp"].min(), fits["fp"].max(), ".0f"),
        "flags": in_words(flags.min(), flags.max(), ".0f"),
        "prevalence": in_words(rates["prevalence"].min(), rates["prevalence"].max()),
        "precision": said["precision"],
        "specificity": said["specificity"],
        "balanced": said["balanced accuracy"],
        "kappa": said["Cohen's kappa"],
        "ratio": in_words(rates["LR+"].min(), rates["LR+"].max(), ".1f"),
        "nobody": said["accuracy of flagging nobody"],
        "everybody": said["accuracy of flagging everybody"],
        "everybody_f1": said["F1 of flagging everybody"],
    }


def of_metrics(printed: Printed) -> dict[str, str]:
    """Return facts on Table 4."""
    scores = published.table("Table 4", printed)
    spread, others = scores.max() / scores.min() - 1, scores.drop(BAICHUAN)
    alpaca = scores.loc[published.BACKBONES["alpaca-chinese-7b"]]
    return {
        "columns": f"{scores.shape[1]}",
        "led": f"{(scores.idxmax() == BAICHUAN).sum()}",
        "rows_beaten": f"{(scores.loc[BAICHUAN] > others).all(axis=1).sum()}",
        "other_rows": f"{len(others)}",
        "bert_alpaca": f"{alpaca['BERTSCORE']:.4f}",
        "bert_baichuan": f"{scores.loc[BAICHUAN, 'BERTSCORE']:.4f}",
        "chrf_alpaca": f"{alpaca['CHRF']:.4f}",
        "chrf_baichuan": f"{scores.loc[BAICHUAN, 'CHRF']:.4f}",
        "alpaca_behind": f"{(alpaca < scores.loc[BAICHUAN]).sum()}",
        "chrf_spread": f"{spread['CHRF']:.0%}",
        "bleu_spread": f"{spread['BLEU']:.0%}",
        "bleu_least": f"{scores['BLEU'].min():.4f}",
        "bleu_most": f"{scores['BLEU'].max():.4f}",
    }


def of_ratings(printed: Printed) -> dict[str, str]:
    """Return facts on Table 5."""
    means, highest = published.table("Table 5", printed), in_text(printed, "highest rating")
    raters = in_text(printed, "raters, students") + in_text(printed, "raters, psychotherapists")
    posts = in_text(printed, "rated items")
    leads = checks.detectable(printed).set_index("scale")
    shares = {scale: in_words(*(sorted(means[scale] / highest))) for scale in means}
    structure = means["Stru."].drop(BAICHUAN)
    both = {scale: f"{means[scale].drop(BAICHUAN).iloc[0]:.3f} and {means.loc[BAICHUAN, scale]:.3f}" for scale in means}
    return {
        "rated": f"{posts:.0f}",
        "highest": f"{highest:.0f}",
        "rele_means": both["Rele."],
        "stru_means": both["Stru."],
        "help_means": both["Help."],
        "raters": f"{raters:.0f}",
        "all_points": f"{posts * raters * highest:,.0f}",
        "rele_share": shares["Rele."],
        "stru_share": shares["Stru."],
        "help_share": shares["Help."],
        "stru_alpaca": f"{structure.iloc[0]:.2f}",
        "stru_baichuan": f"{means.loc[BAICHUAN, 'Stru.']:.2f}",
        "below_least": f"{(highest - means.loc[BAICHUAN, 'Stru.']) / highest:.1%}",
        "rele_points": f"{leads.loc['Rele.', 'lead'] * posts * raters:.0f}",
        "stru_points": f"{leads.loc['Stru.', 'lead'] * posts * raters:.0f}",
        "help_points": f"{leads.loc['Help.', 'lead'] * posts * raters:.0f}",
        "help_lead": f"{leads.loc['Help.', 'lead']:.3f}",
        "stru_sd": f"{leads.loc['Stru.', 'largest SD']:.3f}",
        "help_sd": f"{leads.loc['Help.', 'largest SD']:.3f}",
    }
